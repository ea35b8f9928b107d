"""Putting a finished file into the archive: durable before it is seen, and never over another one."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

#: Two runs of the same name may end at once; the steps below belong together.
_publishing = threading.Lock()


def publish(finished: Path, target: Path) -> Path | None:
    """Move a closed file to its place, which is on the same file system. Durable when this returns.

    A file that stands there already is kept beside it as ``NAME.v1.EXT``, ``NAME.v2.EXT``, ...; gives back where, if so.
    Should the machine stop in between, the earlier file is still there, once or twice, and the next call sorts that out.
    """
    _sync(finished)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _publishing:
        kept = _keep(target) if target.exists() else None
        finished.rename(target)
        _sync(target.parent)
    return kept


def version_name(target: Path, version: int) -> Path:
    """``HYS_1001.nxs.h5`` -> ``HYS_1001.v1.nxs.h5``."""
    stem, dot, extension = target.name.partition(".")
    return target.with_name(f"{stem}.v{version}{dot}{extension}")


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
            _sync(target.parent)
            return place


def set_aside(unfinished: Path, folder: Path, report: str) -> None:
    """Keep what became of a failed translation, with the reason beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        unfinished.rename(folder / unfinished.name)
    (folder / f"{unfinished.name}.json").write_text(report)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
