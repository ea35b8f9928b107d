"""Putting a finished file into the archive: durable before it is seen, and never over another one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

#: Two runs of the same name may end at once, also in two translators; the steps below belong together.
_publishing = threading.Lock()


def publish(finished: Path, target: Path) -> Path | None:
    """Move a closed file to its place, at once where it is on the same file system. Durable when this returns.

    A file that stands there already is kept beside it as ``NAME.v1.EXT``, ``NAME.v2.EXT``, ...; gives back where, if so.
    Should the machine stop in between, the earlier file is still there, once or twice, and the next call sorts that out.
    """
    sync(finished)
    _make_folder(target.parent)
    with _publishing, _locked(target.parent):
        kept = _keep(target) if target.exists() else None
        _move(finished, target)
        sync(target.parent)
    return kept


def version_name(target: Path, version: int) -> Path:
    """``HYS_1001.nxs.h5`` -> ``HYS_1001.v1.nxs.h5``."""
    stem, dot, extension = target.name.partition(".")
    return target.with_name(f"{stem}.v{version}{dot}{extension}")


def set_aside(unfinished: Path, folder: Path, report: str, most: int) -> None:
    """Keep what became of a failed translation, with the reason beside it; of earlier ones the newest ``most - 1``."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        unfinished.rename(folder / unfinished.name)
    (folder / f"{unfinished.name}.json").write_text(report)
    reports = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in reports[: max(0, len(reports) - most)]:
        path.with_suffix("").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move(finished: Path, target: Path) -> None:
    try:
        finished.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{finished.name}")
        shutil.copyfile(finished, beside)
        sync(beside)
        beside.rename(target)
        finished.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps translators in other processes out of a directory meanwhile, where its file system has locks."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make a directory with all above it, each name on the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.is_dir()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        sync(one.parent)


def _keep(target: Path) -> Path:
    version = 1
    while True:
        place = version_name(target, version)
        try:
            os.link(target, place)
        except FileExistsError:
            if place.samefile(target):  # a call that was cut short has linked it already
                return place
            version += 1
        else:
            sync(target.parent)
            return place
