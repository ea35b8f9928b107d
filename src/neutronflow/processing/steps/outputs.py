"""Which files a job has written: those of its run that are new or changed after it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from neutronflow.domain.messages.report import OutputFile

#: Bounds on what is looked at and told; an experiment's folder may hold very many files.
MAX_ENTRIES = 200_000
MAX_DEPTH = 4
MAX_FILES = 200

_KINDS: Mapping[str, str] = {
    **dict.fromkeys((".html", ".png", ".svg", ".pdf", ".jpg"), "plot"),
    **dict.fromkeys((".log", ".err"), "log"),
    **dict.fromkeys(
        (".nxs", ".h5", ".hdf5", ".nxspe", ".csv", ".dat", ".txt", ".gsa", ".xye", ".json", ".ort"), "reduced"
    ),
}

#: path -> (size in bytes, time of change in ns)
Listing = Mapping[str, tuple[int, int]]


def files_of_run(folder: Path, run_number: int) -> Listing:
    """The regular files below ``folder`` whose name holds the run number as a number of its own. Links are not followed."""
    name_has_run = re.compile(rf"(?<!\d)0*{run_number}(?!\d)").search
    found: dict[str, tuple[int, int]] = {}
    for count, entry in enumerate(_walk(folder, MAX_DEPTH)):
        if count >= MAX_ENTRIES:
            break
        if name_has_run(entry.name) and entry.is_file(follow_symlinks=False):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found[entry.path] = (status.st_size, status.st_mtime_ns)
    return found


def written(before: Listing, after: Listing) -> tuple[OutputFile, ...]:
    """The files of ``after`` that ``before`` does not have in the same size and age, by path; at most ``MAX_FILES``."""
    changed = sorted(path for path, state in after.items() if before.get(path) != state)
    return tuple(
        OutputFile(path=_readable(path), size=after[path][0], kind=_kind(path)) for path in changed[:MAX_FILES]
    )


def _walk(folder: Path | str, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError:
        return  # gone, or not ours to read: then it holds nothing of this job
    for entry in listed:
        yield entry
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, depth - 1)


def _readable(path: str) -> str:
    """A path as a message can hold it: a file may have any bytes for a name."""
    return os.fsencode(path).decode(errors="replace")


def _kind(path: str) -> str:
    return _KINDS.get(Path(path).suffix.lower(), "other")
