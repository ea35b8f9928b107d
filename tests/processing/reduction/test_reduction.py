from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neutronflow.domain.facility import facilities
from neutronflow.processing.reduction import NotAnEventFile, Reduced, figure_html, reduce_run, shipped, write_results
from neutronflow.processing.reduction.detector import coarsened, tube_length
from tests.support.recorded import SMALL_RUN


@pytest.fixture(scope="module")
def recorded() -> Reduced:
    return reduce_run(SMALL_RUN)


def event_file(path: Path, tof_us: list[float], ids: list[int], *, charge: float = 1e9, **changes: Any) -> Path:
    """A minimal event file with one bank of 2 tubes of 4 pixels."""
    values = {"name": b"TST", "run_number": b"7", **changes}
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry["run_number"] = [values["run_number"]]
        entry["title"] = [b"<b>title</b>"]
        entry["proton_charge"] = [charge]
        entry["proton_charge"].attrs["units"] = "picoCoulombs"
        entry["instrument/name"] = [values["name"]]
        entry["instrument/bank1/pixel_id"] = np.array([3, 2, 1, 0, 7, 6, 5, 4], np.uint32)
        bank = entry.create_group("bank1_events")
        bank["event_id"] = np.array(ids, np.uint32)
        bank["event_time_offset"] = np.array(tof_us, np.float32)
        bank["event_time_offset"].attrs["units"] = "microsecond"
    return path


def test_no_event_of_the_recorded_run_is_lost(recorded: Reduced) -> None:
    with h5py.File(SMALL_RUN) as file:
        total = int(file["entry/total_counts"][0])
    assert recorded.total_counts == total == 171_200
    assert recorded.spectrum.sum().value == total
    assert recorded.image.sum().value == total


def test_the_image_shows_tubes_side_by_side(recorded: Reduced) -> None:
    assert dict(recorded.image.sizes) == {"pixel": 128, "tube": 160}
    with h5py.File(SMALL_RUN) as file:
        ids = np.concatenate([file[f"entry/bank{bank}_events/event_id"][()] for bank in range(1, 21)])
    expected = np.bincount(ids, minlength=160 * 128).reshape(160, 128).T
    assert np.array_equal(recorded.image.values, expected)


def test_normalisation_carries_units_and_errors(recorded: Reduced) -> None:
    counts, errors = recorded.spectrum.values, np.sqrt(recorded.spectrum.variances)
    assert np.allclose(errors, np.sqrt(counts))
    assert recorded.by_charge is not None
    assert str(recorded.by_charge.unit) == "counts/mC"
    charge_mc = 1.577338e10 * 1e-9
    assert np.allclose(recorded.by_charge.values, counts / charge_mc)
    assert np.allclose(np.sqrt(recorded.by_charge.variances), errors / charge_mc)
    assert recorded.by_monitor is not None
    assert str(recorded.by_monitor.unit) == "dimensionless"
    assert np.allclose(recorded.by_monitor.values, counts / 4280)
    assert recorded.by_monitor.coords["monitor_relative_error"].value == pytest.approx(1 / math.sqrt(4280))


def test_the_results_can_be_read_by_others(recorded: Reduced, tmp_path: Path) -> None:
    files = write_results(recorded, tmp_path, figure_html(recorded))
    assert [path.name for path in files] == [
        "HYS_1001_reduced.nxs.h5", "HYS_1001_reduced.csv", "HYS_1001_plot.html", "HYS_1001.json",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)
    with h5py.File(files[0]) as file:
        data = file[f"entry/{file['entry'].attrs['default']}"]
        assert data.attrs["signal"] == "counts"
        assert list(data.attrs["axes"]) == ["tof"]
        assert data["counts"][()].sum() == 171_200
        assert data["tof"].attrs["units"] == "us"
        assert data["tof"].shape[0] == data["counts"].shape[0] + 1
        assert file["entry/detector_image/counts"][()].sum() == 171_200
    with files[1].open() as table:
        rows = list(csv.DictReader(line for line in table if not line.startswith("#")))
    assert sum(float(row["counts"]) for row in rows) == 171_200


def test_the_description_for_the_catalog_names_input_and_output(recorded: Reduced, tmp_path: Path) -> None:
    files = write_results(recorded, tmp_path, "<div></div>")
    description = json.loads(files[-1].read_text())
    assert description["input_files"] == [{"location": str(SMALL_RUN), "type": "raw", "purpose": "sample-data"}]
    assert [entry["location"] for entry in description["output_files"]] == [str(path) for path in files[:-1]]
    assert description["user"] == "auto"
    assert description["created"].endswith("+00:00")
    assert description["metadata"]["total_counts"] == 171_200


def test_titles_are_text_in_the_figure(tmp_path: Path) -> None:
    div = figure_html(reduce_run(event_file(tmp_path / "x.h5", [1.0], [0])))
    assert div.startswith("<div")
    assert "&lt;b&gt;title&lt;/b&gt;" in div
    assert div.count("Plotly.newPlot") == 2


def test_any_instrument_is_reduced_with_bins_of_the_wanted_width(tmp_path: Path) -> None:
    reduced = reduce_run(event_file(tmp_path / "x.h5", [5.0, 99.0, 101.0, 199.9], [0, 3, 4, 4]), tof_bin_us=100.0)
    assert reduced.info.name == "TST_7"
    assert reduced.spectrum.values.tolist() == [2.0, 2.0]
    assert reduced.spectrum.coords["tof"].values.tolist() == [0.0, 100.0, 200.0]
    assert reduced.image.values.tolist() == [[1, 2], [0, 0], [0, 0], [1, 0]]


def test_a_run_without_events_monitor_or_charge_is_reduced_to_nothing(tmp_path: Path) -> None:
    reduced = reduce_run(event_file(tmp_path / "x.h5", [], [], charge=0.0))
    assert reduced.total_counts == 0
    assert reduced.by_charge is None
    assert reduced.by_monitor is None
    assert write_results(reduced, tmp_path, figure_html(reduced))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tof_us": [math.nan], "ids": [0]}, r"bank 1: times of flight"),
        ({"tof_us": [-1.0], "ids": [0]}, r"bank 1: times of flight"),
        ({"tof_us": [1.0], "ids": [0], "name": b"../etc"}, r"no usable name: '\.\./ETC'"),
        ({"tof_us": [1.0], "ids": [0], "run_number": b"seven"}, r"run number is no number: 'seven'"),
    ],
)
def test_what_cannot_be_reduced_is_refused_with_the_reason(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(NotAnEventFile, match=said):
        reduce_run(event_file(tmp_path / "x.h5", **changes))


def test_a_file_that_is_no_event_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nxs").write_text("no HDF5")
    with pytest.raises(NotAnEventFile):
        reduce_run(tmp_path / "text.nxs")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(NotAnEventFile, match="no group 'entry'"):
        reduce_run(tmp_path / "empty.h5")


def test_a_wide_spectrum_has_at_most_1000_bins_and_loses_nothing(tmp_path: Path) -> None:
    tofs = np.linspace(0.0, 100_000.0, 5000).tolist()
    reduced = reduce_run(event_file(tmp_path / "x.h5", tofs, [0] * 5000))
    assert reduced.spectrum.sizes["tof"] <= 1001
    assert reduced.spectrum.sum().value == 5000


def test_tubes_are_seen_where_the_ids_stop_to_run_on() -> None:
    assert tube_length(np.array([3, 2, 1, 0, 7, 6, 5, 4], np.uint32)) == 4
    assert tube_length(np.arange(8, dtype=np.uint32)) is None
    assert tube_length(np.array([0, 1, 5, 6, 7, 9], np.uint32)) is None


def test_a_large_image_is_drawn_in_blocks_that_keep_the_sum() -> None:
    image = np.ones((300, 301))
    small, block = coarsened(image, 10_000)
    assert block > 1
    assert small.size <= 10_000
    assert small.sum() == image.sum()


def test_shipped_scripts_are_installed_once_and_never_over_an_edited_one(tmp_path: Path) -> None:
    archive = facilities(tmp_path, {})
    script, powder = shipped.install_shipped_scripts(archive)
    assert powder == tmp_path / "SNS" / "PG3" / "shared" / "autoreduce" / "reduce_PG3.py"
    assert script == tmp_path / "SNS" / "HYS" / "shared" / "autoreduce" / "reduce_HYS.py"
    script.write_text("edited")
    assert shipped.install_shipped_scripts(archive) == []
    assert script.read_text() == "edited"
    assert [path.name for path in script.parent.iterdir()] == [script.name]
