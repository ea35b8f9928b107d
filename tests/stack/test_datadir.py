"""The data directory: what keeps the stack from using it, and what it makes there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neutronflow.stack import datadir
from neutronflow.stack.datadir import SECRETS, DataDirectory
from neutronflow.stack.errors import AlreadyRunning, DataTooNew, DiskFull, NotADataDirectory


def test_everything_in_it_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "var"
    data = DataDirectory(path)
    data.prepare()
    data.make_secrets()
    assert {entry.stat().st_mode & 0o777 for entry in path.iterdir() if entry.is_dir()} | {
        path.stat().st_mode & 0o777
    } == {0o700}
    assert {entry.name for entry in (path / "secrets").iterdir()} == set(SECRETS)
    assert {entry.stat().st_mode & 0o777 for entry in (path / "secrets").iterdir()} == {0o600}


def test_one_that_others_can_enter_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "var"
    path.mkdir(mode=0o755)
    DataDirectory(path).prepare()
    assert path.stat().st_mode & 0o777 == 0o700


def test_secrets_are_made_once(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "var")
    data.prepare()
    data.make_secrets()
    first = {path.name: path.read_text() for path in (data.path / "secrets").iterdir()}
    (data.path / "secrets" / "db-owner").unlink()
    (data.path / "secrets" / "db-owner.part").touch()
    data.make_secrets()
    second = {path.name: path.read_text() for path in (data.path / "secrets").iterdir()}
    assert {name for name in SECRETS if first[name] != second[name]} == {"db-owner"}
    assert len(set(second.values())) == len(SECRETS)


def test_its_version_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(path: Path, _text: str) -> None:
        path.touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", cut_short)
    with pytest.raises(NotADataDirectory, match="the disk is full"):
        DataDirectory(tmp_path).prepare()
    assert not (tmp_path / "VERSION").exists()


def test_a_newer_one_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("2\n")
    with pytest.raises(DataTooNew, match="newer Neutronflow"):
        DataDirectory(tmp_path).prepare()
    assert [entry.name for entry in tmp_path.iterdir()] == ["VERSION"]


def test_a_version_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("one")
    with pytest.raises(NotADataDirectory, match="its VERSION is 'one'"):
        DataDirectory(tmp_path).prepare()


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(NotADataDirectory, match="not empty"):
        DataDirectory(tmp_path).prepare()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").touch()
    with pytest.raises(NotADataDirectory, match="var cannot be used as data directory: File exists"):
        DataDirectory(tmp_path / "var").prepare()


def test_a_full_disk_is_seen_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datadir, "_NEEDED_MB", 2**40)
    with pytest.raises(DiskFull, match="MB are free on the disk"):
        DataDirectory(tmp_path / "var").prepare()


def test_only_one_stack_uses_it_at_a_time(tmp_path: Path) -> None:
    first = DataDirectory(tmp_path)
    assert first.holder() is None
    first.prepare()
    assert DataDirectory(tmp_path).holder() == os.getpid()
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        DataDirectory(tmp_path).prepare()


def test_states_of_an_earlier_stack_are_forgotten_when_its_processes_have_ended(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("1\n")
    (tmp_path / "run").mkdir()
    states = tmp_path / "run" / "status.json"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"]) as ending:
        services = [{"name": "postgresql", "pid": ending.pid}, {"name": "gone", "pid": None}]
        states.write_text(json.dumps({"services": services}))
        DataDirectory(tmp_path).prepare()
        assert ending.poll() is not None
    assert not states.exists()


def test_a_process_that_only_has_the_number_of_an_earlier_one_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("1\n")
    (tmp_path / "run").mkdir()
    states = tmp_path / "run" / "status.json"
    states.write_text(json.dumps({"services": [{"name": "postgresql", "pid": os.getppid()}]}))
    os.utime(states, (1, 1))
    began = time.monotonic()
    DataDirectory(tmp_path).prepare()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("content", ["", "[]", '{"services": 3}', '{"services": [7]}'])
def test_states_that_cannot_be_read_are_no_hindrance(tmp_path: Path, content: str) -> None:
    (tmp_path / "VERSION").write_text("1\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text(content)
    DataDirectory(tmp_path).prepare()
