from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from neutronflow.instrument.translation.archive import publish, set_aside, version_name


def finished(folder: Path, text: str) -> Path:
    path = folder / f"{text}.tmp"
    path.write_text(text)
    return path


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "SNS" / "HYS" / "IPTS-1" / "nexus" / "HYS_1001.nxs.h5"


def test_a_file_goes_to_its_place_and_directories_are_made(tmp_path: Path, target: Path) -> None:
    assert publish(finished(tmp_path, "one"), target) is None
    assert content(target.parent) == {"HYS_1001.nxs.h5": "one"}
    assert not (tmp_path / "one.tmp").exists()


def test_earlier_files_are_kept_as_versions_and_the_newest_has_the_plain_name(tmp_path: Path, target: Path) -> None:
    for text in ("one", "two", "three"):
        publish(finished(tmp_path, text), target)
    assert content(target.parent) == {
        "HYS_1001.nxs.h5": "three",
        "HYS_1001.v1.nxs.h5": "one",
        "HYS_1001.v2.nxs.h5": "two",
    }


def test_a_version_that_somebody_else_made_is_not_overwritten(tmp_path: Path, target: Path) -> None:
    publish(finished(tmp_path, "one"), target)
    version_name(target, 1).write_text("theirs")
    assert publish(finished(tmp_path, "two"), target) == version_name(target, 2)
    assert version_name(target, 1).read_text() == "theirs"
    assert version_name(target, 2).read_text() == "one"


def test_a_crash_between_link_and_rename_loses_nothing_and_makes_no_double_version(
    tmp_path: Path, target: Path
) -> None:
    publish(finished(tmp_path, "zero"), target)
    publish(finished(tmp_path, "one"), target)
    os.link(target, version_name(target, 2))  # as far as the crashed call came
    publish(finished(tmp_path, "two"), target)
    assert content(target.parent) == {
        "HYS_1001.nxs.h5": "two",
        "HYS_1001.v1.nxs.h5": "zero",
        "HYS_1001.v2.nxs.h5": "one",
    }


def test_files_that_come_at_once_are_all_kept(tmp_path: Path, target: Path) -> None:
    files = [finished(tmp_path, str(number)) for number in range(12)]
    threads = [threading.Thread(target=publish, args=(file, target)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(content(target.parent).values(), key=int) == [str(number) for number in range(12)]


def test_failed_translations_are_kept_with_their_reason_the_newest_only(tmp_path: Path) -> None:
    folder = tmp_path / "failed"
    for number in range(5):
        set_aside(finished(tmp_path, str(number)), folder, f"reason {number}", most=2)
        os.utime(folder / f"{number}.tmp.json", (number, number))
    set_aside(tmp_path / "never written", folder, "nothing came", most=3)
    assert content(folder) == {
        "3.tmp": "3",
        "3.tmp.json": "reason 3",
        "4.tmp": "4",
        "4.tmp.json": "reason 4",
        "never written.json": "nothing came",
    }
