"""The powder reduction of a simulated run that went through the real translator."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.instrument.simulator.settings import SimulatorSettings
from neutronflow.processing.reduction import NotAnEventFile
from neutronflow.processing.reduction import powder as module
from neutronflow.processing.reduction.powder import Focused, focus_run
from neutronflow.processing.reduction.powderfigure import pattern_html
from neutronflow.processing.reduction.powderfiles import write_pattern
from tests.support.recorded import SMALL_RUN
from tests.support.simulated import SimulatedRun, simulated_run

SCRIPT = Path(module.__file__).with_name("scripts") / "reduce_PG3.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimulatedRun:
    return simulated_run(tmp_path_factory.mktemp("run"), 600, SimulatorSettings(seed=3))


@pytest.fixture(scope="module")
def focused(run: SimulatedRun) -> Focused:
    return focus_run(run.path)


def centroid(focused: Focused, near: float) -> float:
    """The middle of a peak above the straight line from one of its feet to the other."""
    edges = focused.pattern.coords["dspacing"].values
    middle, counts = 0.5 * (edges[1:] + edges[:-1]), focused.pattern.values / np.diff(edges)
    inside = np.abs(middle / near - 1) < 0.008
    left, right = (np.abs(middle / (near * (1 + side * 0.012)) - 1) < 0.004 for side in (-1, 1))
    line = np.interp(middle, [near * 0.988, near * 1.012], [counts[left].mean(), counts[right].mean()])
    above = (counts - line)[inside]
    return float((above * middle[inside]).sum() / above.sum())


@pytest.mark.parametrize("spacing", [3.1356, 1.9202, 1.6375, 1.3577, 1.2460, 1.1086])
def test_the_peaks_of_silicon_are_where_they_belong(focused: Focused, spacing: float) -> None:
    assert centroid(focused, spacing) == pytest.approx(spacing, rel=0.001)


def test_peaks_are_narrow_at_all_angles_together(focused: Focused) -> None:
    edges = focused.pattern.coords["dspacing"].values
    middle, counts = 0.5 * (edges[1:] + edges[:-1]), focused.pattern.values
    around = (middle > 3.1) & (middle < 3.17)
    above = middle[around][counts[around] > counts[around].max() / 2]
    assert 0.001 < (above[-1] - above[0]) / 3.1356 < 0.005


def test_no_event_is_lost(run: SimulatedRun, focused: Focused) -> None:
    events = sum(len(pulse.tof) for pulse in run.pulses)
    assert focused.total_counts == events
    assert focused.unplaced == 0
    assert focused.pattern.sum().value + focused.outside == events
    assert np.array_equal(focused.pattern.variances, focused.pattern.values)


def test_the_pattern_is_normalised_by_the_charge_that_was_drawn(run: SimulatedRun, focused: Focused) -> None:
    charge_mc = sum(pulse.charge_10pc for pulse in run.pulses) * 10 * 1e-9
    assert focused.by_charge is not None
    assert str(focused.by_charge.unit) == "counts/mC"
    assert np.allclose(focused.by_charge.values, focused.pattern.values / charge_mc)


def test_events_in_pieces_give_the_same_pattern(
    run: SimulatedRun, focused: Focused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neutronflow.processing.reduction.events.CHUNK_EVENTS", 1009)
    assert np.array_equal(focus_run(run.path).pattern.values, focused.pattern.values)


def test_the_results_can_be_read_by_others(focused: Focused, run: SimulatedRun, tmp_path: Path) -> None:
    files = write_pattern(focused, tmp_path, pattern_html(focused))
    assert [path.name for path in files] == [
        "PG3_7_reduced.nxs.h5", "PG3_7_reduced.csv", "PG3_7_plot.html", "PG3_7.json",
    ]  # fmt: skip
    with h5py.File(files[0]) as file:
        assert file["entry"].attrs["simulated"]
        data = file[f"entry/{file['entry'].attrs['default']}"]
        assert data[data.attrs["signal"]].attrs["units"] == "counts/mC"
        assert list(data.attrs["axes"]) == ["dspacing"]
        assert data["dspacing"].attrs["units"] in {"Å", "angstrom"}
        assert file["entry/powder_pattern/counts"][()].sum() == focused.pattern.sum().value
    with files[1].open() as table:
        rows = list(csv.DictReader(line for line in table if not line.startswith("#")))
    assert sum(float(row["counts"]) for row in rows) == focused.pattern.sum().value
    description = json.loads(files[-1].read_text())
    assert description["input_files"][0]["location"] == str(run.path)
    assert description["metadata"]["simulated"] is True


def test_the_figure_names_run_axes_and_that_nobody_has_measured_this(focused: Focused) -> None:
    div = pattern_html(focused)
    assert div.count("Plotly.newPlot") == 1
    assert "PG3 run 7" in div
    assert "(simulated)" in div
    assert "d-spacing (" in div
    measured = pattern_html(
        Focused(**{name: getattr(focused, name) for name in focused.__struct_fields__ if name != "info"},
                info=_without_mark(focused))
    )  # fmt: skip
    assert "simulated" not in measured


def _without_mark(focused: Focused) -> module.RunInfo:
    info = focused.info
    return module.RunInfo(**{name: getattr(info, name) for name in info.__struct_fields__} | {"simulated": False})


def test_the_script_leaves_its_files_where_it_is_told(run: SimulatedRun, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for name in [name for name in environment if name.startswith("PLOT_PUBLISHER")]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, SCRIPT, run.path, f"{tmp_path}/"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "PG3 run 7" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "PG3_7_reduced.nxs.h5", "PG3_7_reduced.csv", "PG3_7_plot.html", "PG3_7.json",
    }  # fmt: skip


def changed(run: SimulatedRun, folder: Path) -> Path:
    return Path(shutil.copy(run.path, folder / "changed.nxs.h5"))


def test_a_file_without_definition_is_refused_with_the_reason(run: SimulatedRun, tmp_path: Path) -> None:
    path = changed(run, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/instrument_xml"]
    with pytest.raises(NotAnEventFile, match="no definition of its instrument"):
        focus_run(path)


def test_a_definition_that_cannot_be_used_is_refused_with_the_reason(run: SimulatedRun, tmp_path: Path) -> None:
    path = changed(run, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/instrument_xml/data"]
        file["entry/instrument/instrument_xml/data"] = [b"<instrument>"]
    with pytest.raises(NotAnEventFile, match="definition cannot be used"):
        focus_run(path)


def test_events_of_unknown_pixels_are_counted_and_left_out(run: SimulatedRun, tmp_path: Path, focused: Focused) -> None:
    path = changed(run, tmp_path)
    with h5py.File(path, "r+") as file:
        ids = file["entry/bank1_events/event_id"]
        ids[:3] = [20_480, 0xFFFFFFFF, 1 << 27]
    found = focus_run(path)
    assert found.unplaced == 3
    assert found.pattern.sum().value + found.outside == focused.total_counts - 3


def test_a_run_without_charge_is_focused_but_not_normalised(run: SimulatedRun, tmp_path: Path) -> None:
    path = changed(run, tmp_path)
    with h5py.File(path, "r+") as file:
        file["entry/proton_charge"][:] = 0.0
        del file["entry"].attrs["simulated"]
    found = focus_run(path)
    assert found.by_charge is None
    assert not found.info.simulated
    assert write_pattern(found, tmp_path, pattern_html(found))


def test_an_instrument_that_is_moved_by_motors_nobody_has_logged_is_refused() -> None:
    with pytest.raises(NotAnEventFile, match="depends on 'msd', of which there is no value"):
        focus_run(SMALL_RUN)


def test_an_instrument_that_is_moved_by_motors_is_focused_where_they_have_put_it(tmp_path: Path) -> None:
    path = Path(shutil.copy(SMALL_RUN, tmp_path / "moved.nxs.h5"))
    with h5py.File(path, "r+") as file:
        file["entry/DASlogs/msd/value"] = np.array([0.0, 2000.0])
    found = focus_run(path, d_min=0.1, d_max=50.0)
    assert found.total_counts == 171_200
    assert found.unplaced == 0
    assert found.pattern.sum().value > 0.9 * found.total_counts


@pytest.mark.parametrize("bins", [(0.0, 4.0, 0.001), (4.0, 0.4, 0.001), (0.4, 4.0, 0.0)])
def test_bins_that_cannot_be_are_refused(run: SimulatedRun, bins: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="no bins reach"):
        focus_run(run.path, d_min=bins[0], d_max=bins[1], d_step=bins[2])
