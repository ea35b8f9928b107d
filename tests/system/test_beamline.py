"""The simulated beamline through the whole stack: runs, live plots, the record, killed services, and the probe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.instrument.simulator.layout import BANKS, MONITORS
from neutronflow.instrument.simulator.record import read_pulses, read_variables
from tests.support.stack import Stack, running_stack, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

_SETTINGS = """
[simulator]
first_runs = 1
first_run_s = 10
runs = 1
"""
_RUN = {"proposal_id": "IPTS-99001", "run_title": "a run <b>by hand</b>"}
_SILICON = (3.1356, 1.9202, 1.6375)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("beamline"), _SETTINGS, simulated=True) as running:
        yield running


def control(stack: Stack, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Ask the run control, until it answers."""
    headers = {"Authorization": f"Bearer {stack.settings.secret('run-control-token')}"}
    url = stack.url("run_control", path)
    deadline = time.monotonic() + 30
    while True:
        try:
            reply = httpx.request(method, url, headers=headers, content=json.dumps(body or {}), timeout=10)
            if reply.status_code == httpx.codes.OK:
                found: dict[str, Any] = reply.json()
                return found
            problem = reply.text
        except httpx.TransportError as error:
            problem = str(error)
        assert time.monotonic() < deadline, problem
        time.sleep(0.2)


def state_of(stack: Stack, run: int) -> str:
    return str(stack.run_state(f"SNS/PG3/{run}").get("state", ""))


def plots(stack: Stack, run: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.get("livedata", f"/plots/pg3/{run}/history/").json()
    return found


def nexus(stack: Stack, run: int) -> Path:
    return stack.settings.archive_root / "SNS" / "PG3" / "IPTS-99001" / "nexus" / f"PG3_{run}.nxs.h5"


def complete(stack: Stack, run: int) -> None:
    wait_until(lambda: state_of(stack, run) == "complete", f"run {run} is complete", 60)


def test_a_run_shows_a_growing_picture_then_its_pattern(stack: Stack) -> None:
    wait_until(lambda: state_of(stack, 1) == "acquiring", "run 1 is being taken", 40)
    wait_until(lambda: plots(stack, 1), "a live picture")
    first = plots(stack, 1)[0]
    assert first["live"]
    wait_until(lambda: plots(stack, 1)[0]["version"] > first["version"], "the picture grows")
    assert len(plots(stack, 1)) == 1
    now = stack.get("monitor", "/api/instruments/SNS/PG3").json()
    wait_until(lambda: stack.get("monitor", "/api/instruments/SNS/PG3").json() != now, "values change")
    complete(stack, 1)
    assert not plots(stack, 1)[0]["live"]
    page = stack.get("monitor", "/api/runs/SNS/PG3/1").json()
    assert {step["name"]: step["state"] for step in page["steps"]} == {
        "catalog_raw": "complete",
        "reduce": "complete",
        "catalog_reduced": "complete",
    }
    cataloged = stack.get("catalog", "/api/datafiles?facility=SNS&instrument=PG3").json()
    assert [entry["location"] for entry in cataloged] == [str(nexus(stack, 1))]
    assert stack.sql("SELECT simulated FROM run") == [(True,)]


@pytest.mark.parametrize("spacing", _SILICON)
def test_the_peaks_stand_where_those_of_silicon_stand(stack: Stack, spacing: float) -> None:
    complete(stack, 1)
    reduced = nexus(stack, 1).parents[1] / "shared" / "autoreduce" / "PG3_1_reduced.nxs.h5"
    with h5py.File(reduced) as file:
        assert file["entry"].attrs["simulated"]
        pattern = file[f"entry/{file['entry'].attrs['default']}"]
        edges, counts = pattern["dspacing"][()], pattern[pattern.attrs["signal"]][()]
    middle = 0.5 * (edges[1:] + edges[:-1]) if len(edges) > len(counts) else edges
    around = np.abs(middle / spacing - 1) < 0.008
    above = counts[around] - np.median(counts[around])
    above[above < 0.1 * above.max()] = 0
    assert float((above * middle[around]).sum() / above.sum()) == pytest.approx(spacing, rel=0.002)


def against_record(stack: Stack, run: int) -> int:
    """Compare a finished file with what the simulator says that it drew; how many pulses that were."""
    records = stack.settings.data_dir / "simulator" / "records"
    with h5py.File(nexus(stack, run)) as file:
        entry = file["entry"]
        frequency = entry["DASlogs/frequency/time"]
        first_s, first_ns = int(frequency.attrs["offset_seconds"]), int(frequency.attrs["offset_nanoseconds"])
        # Times are float64 seconds; a pulse is found by its nearest nanosecond.
        after = np.rint(frequency[()] * 1e9).astype(np.int64)
        ns = first_s * 1_000_000_000 + first_ns + after
        ids = (ns // 1_000_000_000).astype(np.uint64) << np.uint64(32) | (ns % 1_000_000_000).astype(np.uint64)
        rows = read_pulses(records, int(ids[0]), int(ids[-1]))
        # After a gap the record knows pulses that nobody took.
        rows = rows[np.isin(rows["pulse_id"], ids)]
        assert np.array_equal(rows["pulse_id"], ids)
        for bank in range(1, BANKS + 1):
            index = entry[f"bank{bank}_events/event_index"][()].astype(np.int64)
            total = int(entry[f"bank{bank}_events/total_counts"][0])
            assert np.array_equal(np.diff(np.append(index, total)), rows["banks"][:, bank - 1])
        for column, monitor in enumerate(MONITORS):
            index = entry[f"monitor{monitor}/event_index"][()].astype(np.int64)
            total = int(entry[f"monitor{monitor}/total_counts"][0])
            assert np.array_equal(np.diff(np.append(index, total)), rows["monitors"][:, column])
        assert int(entry["total_counts"][0]) == rows["banks"].sum()
        charge = entry["DASlogs/proton_charge/value"][()] / 10
        # The charge of a pulse comes with the next one: where that is missing, it is the one that came with the pulse.
        followed = np.append(np.diff(ns) < 20_000_000, True)
        assert np.array_equal(charge[followed], rows["charge_10pc"][followed])
        begun, ended = (ns[at] + EPICS_EPOCH_UNIX * 1_000_000_000 for at in (0, -1))
        drawn = [one for one in read_variables(records, int(begun), int(ended)) if one.name == "BL11A:SE:SampleTemp"]
        log = entry["DASlogs/BL11A:SE:SampleTemp"]
        values = log["value"][()].tolist()
        assert drawn
        missing = [one.value for one in drawn if one.value not in values]
        assert not missing or len(followed) > followed.sum(), missing
        return len(rows)


def test_the_file_holds_what_the_simulator_drew(stack: Stack) -> None:
    complete(stack, 1)
    assert against_record(stack, 1) >= 590


def kill(stack: Stack, service: str) -> None:
    """kill -9, and wait until it is back."""
    old = stack.status()[service]
    os.kill(old["pid"], signal.SIGKILL)

    def back() -> bool:
        new = stack.status().get(service, {})
        return bool(new.get("ready")) and new["pid"] != old["pid"]

    wait_until(back, f"{service} is back", 30)


@pytest.mark.parametrize(
    "service", ["stream", "translator", "dasmon", "livereduce", "simulator", "broker", "postgresql"]
)
def test_a_run_survives_a_service_that_is_killed_in_it(stack: Stack, service: str) -> None:
    complete(stack, 1)
    run = control(stack, "POST", "/api/run/start", _RUN)["run_number"]
    time.sleep(4)
    kill(stack, service)
    time.sleep(4)
    assert control(stack, "GET", "/api/state")["run_number"] == run
    wait_until(lambda: state_of(stack, run) == "acquiring", "the run is known")
    if service == "dasmon":
        # It has counted the run again from its beginning.
        def counted() -> bool:
            rows = stack.sql("SELECT value FROM status_value WHERE key = 'total_time'")
            return bool(rows) and float(rows[0][0]) > 8

        wait_until(counted, "DASMON knows the whole run", 20)
    assert control(stack, "POST", "/api/run/stop")["run_number"] == run
    complete(stack, run)
    assert against_record(stack, run) > 5 * 60
    told = stack.get("monitor", f"/api/runs/SNS/PG3/{run}").json()
    assert told["cycle"] == 1
    if service in ("stream", "simulator"):
        assert any("no data from" in gap for gap in told["notices"]), told
        with h5py.File(nexus(stack, run)) as file:
            comments = [bytes(row).decode() for row in file["entry/DASlogs/comments/value"][()].ravel()]
        assert any("Gap: no data from" in comment for comment in comments)
    else:
        assert told["notices"] == []


def test_the_probe_goes_through_and_leaves_nothing(stack: Stack) -> None:
    done = stack.run("probe", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    stages = ("translated", "cataloged", "reduced", "reduction_cataloged", "plotted", "total")
    assert all(result[stage] > 0 for stage in stages)
    assert result["ok"]
    assert "not_removed" not in result
    number = int(result["run"].rpartition("/")[2])
    assert stack.run_state(f"SNS/PROBE/{number}") == {}
    assert stack.get("livedata", f"/plots/probe/{number}/history/").json() == []
    assert stack.get("catalog", "/api/datafiles?instrument=PROBE").json() == []
    left = [path for path in stack.settings.probe_root.rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["reduce_PROBE.py"]


def test_a_kept_probe_is_in_no_list(stack: Stack) -> None:
    result = json.loads(stack.run("probe", "--json", "--keep").stdout)
    number = int(result["run"].rpartition("/")[2])
    assert stack.run_state(f"SNS/PROBE/{number}")["state"] == "complete"
    assert not [path for path in stack.settings.archive_root.rglob("*") if "PROBE" in path.name]
    reply = stack.get("monitor", f"/api/runs/SNS/PROBE/{number}")
    assert reply.status_code == 200
    headers = {"Authorization": f"Bearer {stack.settings.secret('service-token')}"}
    url = stack.url("monitor", f"/api/runs/SNS/PROBE/{number}")
    assert httpx.delete(url.replace("PROBE", "PG3"), headers=headers).status_code in (403, 404)
    assert httpx.delete(url).status_code in (401, 403)
    assert httpx.delete(url, headers=headers).status_code in (200, 204)
    assert stack.run_state(f"SNS/PROBE/{number}") == {}


def test_a_probe_of_a_stack_that_does_not_work_says_where(stack: Stack) -> None:
    manager = stack.status()["manager"]["pid"]
    os.kill(manager, signal.SIGSTOP)
    try:
        done = stack.run("probe", "--json", "--timeout", "3")
    finally:
        os.kill(manager, signal.SIGCONT)
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert result["translated"] > 0
    assert result["cataloged"] is None
    assert "cataloged" in result["problem"]


def test_a_probe_without_a_stack_says_so(tmp_path: Path) -> None:
    environ = {**os.environ, "NEUTRONFLOW_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "neutronflow.cli", "probe"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "up" in done.stderr
