"""The process that reads NeXus files for the catalog: a path a line comes in, what the file says of itself goes out.

It is a process of its own because a file can be broken in ways that end or hang its reader, and because whoever may put a
file into the archive must not make the catalog read another one: links and data that lead out of the file are not followed.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from typing import Any

import h5py
import numpy as np

_TEXTS = ("title", "start_time", "end_time", "experiment_identifier", "experiment_title", "run_number")
_NUMBERS = ("duration", "total_counts", "proton_charge", "total_pulses")
_MAX_LOGS = 500
_MAX_TEXT = 2000
_MAX_LINKS = 8
#: No single value of interest is larger, nor the chunk around it.
_MAX_ITEM_BYTES = 64 * 1024
_MAX_CHUNK_BYTES = 4 * 2**20
_MAX_MEMORY_BYTES = 2 * 2**30


def main() -> int:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()
    return 0


def _answer(path: str) -> dict[str, Any]:
    try:
        return {"metadata": {"entry": read_entry(path)}}
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        return {"refused": _clean(" ".join(str(error).split()) or type(error).__name__)}


def read_entry(path: str) -> dict[str, Any]:
    """The texts and numbers of the group ``entry``, and the averages of its logs. Raises what h5py raises."""
    with h5py.File(path, "r") as file:
        entry = _find(file, "entry")
        if not isinstance(entry, h5py.Group):
            raise ValueError("it has no group 'entry'")
        found: dict[str, Any] = {name: text for name in _TEXTS if (text := _text(_find(entry, name))) is not None}
        found |= {name: number for name in _NUMBERS if (number := _number(_find(entry, name))) is not None}
        found["instrument"] = _instrument(_find(entry, "instrument/name"))
        found["daslogs"] = _logs(_find(entry, "DASlogs"))
    return found


def _instrument(name: Any) -> dict[str, str | None]:
    short = name.attrs.get("short_name") if isinstance(name, h5py.Dataset) else None
    if isinstance(short, bytes):
        short = short.decode(errors="replace")
    return {"name": _text(name), "short_name": _clean(short) if isinstance(short, str) else None}


def _logs(group: Any) -> dict[str, dict[str, object]]:
    logs: dict[str, dict[str, object]] = {}
    if not isinstance(group, h5py.Group):
        return logs
    for name in group:
        # h5py gives names that are not UTF-8 as bytes, but cannot open them.
        average = _find(group, f"{name}/average_value") if isinstance(name, str) else None
        if average is not None:
            device = _text(_find(group, f"{name}/device_name"))
            logs[_clean(name.lower())] = {"average_value": _number(average), "device_name": device}
        if len(logs) >= _MAX_LOGS:
            break
    return logs


def _find(start: h5py.Group, path: str, links: int = _MAX_LINKS) -> Any:
    """The object at a path within the file; None where there is none, or where the path leads into another file."""
    here: Any = start.file if path.startswith("/") else start
    for part in filter(None, path.split("/")):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if isinstance(link, h5py.SoftLink) and links:
            here = _find(here, link.path, links - 1)
        else:
            here = here[part] if isinstance(link, h5py.HardLink) else None
    return here


def _first(dataset: Any, kinds: str) -> Any:
    """The first value of a dataset of these kinds of dtype; None where there is none, or where it is not in the file."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in kinds or not dataset.size:
        return None
    if dataset.external or dataset.is_virtual or dataset.dtype.itemsize > _MAX_ITEM_BYTES:
        return None
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
        return None
    return dataset[(0,) * dataset.ndim]


def _text(dataset: Any) -> str | None:
    value = _first(dataset, "SO")
    if isinstance(value, bytes):
        return _clean(value.decode(errors="replace"))
    return _clean(value) if isinstance(value, str) else None


def _number(dataset: Any) -> float | int | None:
    value = _first(dataset, "fiu")
    if value is None:
        return None
    if isinstance(value, np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _clean(text: str) -> str:
    """The text as every database and page can hold it."""
    return text.replace("\0", "").encode(errors="replace").decode()[:_MAX_TEXT]


if __name__ == "__main__":
    sys.exit(main())
