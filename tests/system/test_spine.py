"""The spine: from a recorded event stream to its plot, through every real service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import httpx
import pytest

from tests.support.stack import Stack, running_stack, wait_until
from tests.support.streams import RECORDED, renamed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    config = (
        '[facilities.XRF]\nexperiment_pattern = "P\\\\d{6}"\nnexus_dir = "{facility}/{instrument}/{experiment}/raw"\n'
    )
    with running_stack(tmp_path_factory.mktemp("spine"), config) as running:
        yield running


def replay(stack: Stack, file: Path, *options: str) -> dict[str, object]:
    done = stack.run("replay", str(file), "--json", *options, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_recorded_run_goes_from_its_stream_to_its_plot(stack: Stack) -> None:
    assert replay(stack, RECORDED, "--speed", "20")["state"] == "complete"
    raw = stack.settings.archive_root / "SNS/HYS/IPTS-12345/nexus/HYS_1001.nxs.h5"
    with h5py.File(raw) as file:
        assert int(file["entry/total_counts"][0]) == 171_200
    found = stack.run_state("SNS/HYS/1001")
    assert {step["name"]: step["state"] for step in found["steps"] if step["attempt"] == 1} == {
        "catalog_raw": "complete",
        "reduce": "complete",
        "catalog_reduced": "complete",
    }
    assert all(step["agent"].startswith("autoreducer") for step in found["steps"])
    plot = stack.get("livedata", "/plots/hys/1001/update/html/")
    assert "Plotly.newPlot" in plot.text
    log = stack.sql("SELECT log FROM job_report WHERE step = 'reduce'")
    assert log
    assert log[0][0]


def test_a_second_replay_makes_a_new_version_and_keeps_the_old(stack: Stack) -> None:
    before = stack.run_state("SNS/HYS/1001").get("cycle", 0)
    replay(stack, RECORDED)
    replay(stack, RECORDED)
    assert stack.run_state("SNS/HYS/1001")["cycle"] == before + 2
    folder = stack.settings.archive_root / "SNS/HYS/IPTS-12345/nexus"
    names = sorted(path.name for path in folder.iterdir())
    assert "HYS_1001.nxs.h5" in names
    assert "HYS_1001.v1.nxs.h5" in names
    newest = (folder / "HYS_1001.nxs.h5").stat().st_mtime
    assert newest == max((folder / name).stat().st_mtime for name in names)


def test_three_runs_of_two_instruments_that_stand_nowhere_in_the_code(stack: Stack, tmp_path: Path) -> None:
    shipped = Path(stack.settings.archive_root / "SNS/HYS/shared/autoreduce/reduce_HYS.py").read_text()
    runs = [("ALPHA", 7), ("ALPHA", 8), ("BETA-2", 7)]
    for instrument in ("ALPHA", "BETA-2"):
        folder = stack.settings.archive_root / "XRF" / instrument / "shared" / "autoreduce"
        folder.mkdir(parents=True)
        (folder / f"reduce_{instrument}.py").write_text(shipped)
    results: dict[tuple[str, int], dict[str, object]] = {}

    def one(instrument: str, run_number: int) -> None:
        file = tmp_path / f"{instrument}_{run_number}.adara"
        file.write_bytes(renamed(facility="XRF", instrument=instrument, experiment="P123456", run_number=run_number))
        results[instrument, run_number] = replay(stack, file, "--speed", "20")

    threads = [threading.Thread(target=one, args=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run: result["state"] for run, result in results.items()} == dict.fromkeys(runs, "complete")
    assert (stack.settings.archive_root / "XRF/BETA-2/P123456/raw/BETA-2_7.nxs.h5").is_file()


def test_pages_need_a_login_and_the_api_a_token(stack: Stack) -> None:
    page = httpx.get(stack.url("monitor", "/instruments/"), timeout=10)
    assert page.status_code == 302
    assert "/login" in page.headers["location"]
    assert httpx.get(stack.url("monitor", "/api/runs/SNS/HYS/1001"), timeout=10).status_code == 401
    wrong = {"Authorization": "Bearer nothing"}
    for service, path in [
        ("monitor", "/api/runs/SNS/HYS/1001"),
        ("catalog", "/api/datafiles"),
        ("livedata", "/plots/hys/1/update/html/"),
    ]:
        assert httpx.get(stack.url(service, path), headers=wrong, timeout=10).status_code == 401


def test_status_names_every_service_and_exits_0(stack: Stack) -> None:
    services = stack.status()
    assert set(services) >= {
        "postgresql", "broker", "manager", "listener", "autoreducer1", "autoreducer2",
        "translator", "catalog", "livedata", "monitor",
    }  # fmt: skip
    assert all(service["ready"] for service in services.values())


def test_heartbeats_of_manager_and_agents_are_stored(stack: Stack) -> None:
    def names() -> set[str]:
        return {row[0] for row in stack.sql("SELECT name FROM service_status")}

    wait_until(lambda: names() >= {"workflowmgr", "autoreducer1", "autoreducer2"}, "heartbeats", 40)
