from __future__ import annotations

import os
from pathlib import Path

import msgspec

from neutronflow.processing.steps.outputs import MAX_FILES, files_of_run, written


def test_new_and_changed_files_of_the_run_are_told_with_size_and_kind(tmp_path: Path) -> None:
    for name in ("HYS_1001_old.csv", "HYS_1001_same.nxs", "HYS_1000.nxs"):
        (tmp_path / name).write_text("x")
    before = files_of_run(tmp_path, 1001)
    (tmp_path / "sub").mkdir()
    (tmp_path / "HYS_1001_old.csv").write_text("changed")
    (tmp_path / "sub" / "HYS_001001.png").write_text("pic")
    (tmp_path / "HYS_11001.nxs").write_text("another run")
    (tmp_path / "HYS_10010.nxs").write_text("another run")
    found = written(before, files_of_run(tmp_path, 1001))
    assert [(Path(file.path).name, file.size, file.kind) for file in found] == [
        ("HYS_1001_old.csv", 7, "reduced"),
        ("HYS_001001.png", 3, "plot"),
    ]


def test_links_are_not_followed_and_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "HYS_1001.link").symlink_to("/etc/passwd")
    (tmp_path / "loop_1001").symlink_to(tmp_path)
    assert files_of_run(tmp_path, 1001) == {}
    assert files_of_run(tmp_path / "none", 1001) == {}


def test_no_more_files_are_told_than_a_message_should_hold(tmp_path: Path) -> None:
    after = {f"/out/HYS_1_{i}.nxs": (1, i) for i in range(MAX_FILES + 50)}
    assert len(written({}, after)) == MAX_FILES


def test_a_name_that_is_no_text_is_told_as_text(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/HYS_1001_\xff.nxs")).touch()
    (found,) = written({}, files_of_run(tmp_path, 1001))
    assert Path(found.path).name == "HYS_1001_\ufffd.nxs"
    assert msgspec.json.encode(found)
