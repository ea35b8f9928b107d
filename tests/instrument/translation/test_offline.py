"""``neutronflow translate``, as people call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from neutronflow.cli import main
from tests.support.nexusfiles import differences
from tests.support.recorded import SMALL_RUN
from tests.support.streams import RECORDED


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUTRONFLOW_DATA_DIR", str(tmp_path / "var"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "run.nxs.h5"


def broken(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "broken.adara"
    path.write_bytes(data)
    return str(path)


def test_a_recording_becomes_a_file_and_a_summary(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", str(RECORDED), "-o", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {name: summary[name] for name in ("run_number", "facility", "instrument", "experiment")} == {
        "run_number": 1001,
        "facility": "SNS",
        "instrument": "HYS",
        "experiment": "IPTS-12345",
    }
    assert (summary["pulses"], summary["events"], summary["problems"]) == (856, 171_200, {})
    assert "/entry/bank1_events/event_id" not in differences(out, SMALL_RUN)
    with h5py.File(out) as file:
        assert file.attrs["file_name"] == b"run.nxs.h5"
    assert [path.name for path in out.parent.iterdir()] == ["run.nxs.h5"]


def test_a_file_that_is_there_is_not_written_over_without_force(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.write_text("precious")
    assert main(["translate", str(RECORDED), "-o", str(out)]) == 2
    assert "is there already; --force writes over it" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert main(["translate", str(RECORDED), "-o", str(out), "--force"]) == 0
    assert h5py.is_hdf5(out)


def test_a_truncated_recording_is_refused_with_its_offset(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["translate", broken(tmp_path, RECORDED.read_bytes()[:1_000_001]), "-o", str(out)]) == 1
    told = capsys.readouterr().err
    assert "broken.adara was not translated" in told
    assert "ended at byte offset 1000001" in told
    assert not list(out.parent.iterdir())


def test_garbage_is_refused_with_its_offset_and_an_old_file_stays(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out.write_text("precious")
    file = broken(tmp_path, RECORDED.read_bytes()[:36] + b"\xff" * 100)
    assert main(["translate", file, "-o", str(out), "--force"]) == 1
    assert "cannot be understood at byte offset" in capsys.readouterr().err
    assert out.read_text() == "precious"


def test_the_partial_result_is_kept_where_it_is_asked_for_and_can_be_read(tmp_path: Path, out: Path) -> None:
    file = broken(tmp_path, RECORDED.read_bytes()[:1_000_001])
    assert main(["translate", file, "-o", str(out), "--keep-partial"]) == 1
    partial = out.with_name("run.partial.nxs.h5")
    assert list(out.parent.iterdir()) == [partial]
    with h5py.File(partial) as kept, h5py.File(SMALL_RUN) as whole:
        events = kept["entry/bank1_events/event_id"][()]
        assert 1000 < len(events) < len(whole["entry/bank1_events/event_id"])
        assert events.tolist() == whole["entry/bank1_events/event_id"][: len(events)].tolist()
        assert b"ended at byte offset 1000001" in kept["entry/Software/Translation/note"][0]


def test_a_recording_that_is_not_there_is_refused(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["translate", str(tmp_path / "none.adara"), "-o", str(out)]) == 2
    assert "There is no such file" in capsys.readouterr().err
    assert main(["translate", str(RECORDED), "-o", str(tmp_path / "nowhere" / "run.nxs.h5")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_disk_that_takes_no_more_is_told_in_a_sentence(out: Path) -> None:
    """A limit on file sizes stands in for a full disk: the same calls fail, and no disk has to be filled."""
    code = (
        "import resource, sys; from neutronflow.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "translate", str(RECORDED), "-o", str(out)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, env=environ, check=False, text=True)
    assert done.returncode == 1
    assert "The file cannot be written" in done.stderr
    assert not list(out.parent.iterdir())


def test_standard_input_is_a_stream_too(out: Path) -> None:
    command = [sys.executable, "-m", "neutronflow.cli", "translate", "-", "-o", str(out), "--json"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with RECORDED.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, env=environ, check=True)
    assert json.loads(done.stdout)["events"] == 171_200
