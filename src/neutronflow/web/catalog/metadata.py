"""Reading what a NeXus file says of itself."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLong
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neutronflow.foundation.errors import NeutronflowError

_TEXTS = ("title", "start_time", "end_time", "experiment_identifier", "experiment_title", "run_number")
_NUMBERS = ("duration", "total_counts", "proton_charge", "total_pulses")
_MAX_LOGS = 500
_MAX_TEXT = 2000

_readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="metadata")


class UnreadableFile(NeutronflowError):
    """The file {path} is no NeXus file that can be read: {detail}."""

    code = "unreadable-file"


def read_metadata(path: Path, timeout_s: float) -> dict[str, Any]:
    """``{"entry": {...}}`` with the entry's texts and numbers and the averages of its logs. Raises :class:`UnreadableFile`."""
    try:
        return _readers.submit(_read, path).result(timeout_s)
    except TooLong as error:
        raise UnreadableFile(path=path, detail=f"it took longer than {timeout_s:g} s") from error
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise UnreadableFile(path=path, detail=error) from error


def _read(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        entry = file["entry"]
        found: dict[str, Any] = {name: text for name in _TEXTS if (text := _text(entry.get(name))) is not None}
        found |= {name: number for name in _NUMBERS if (number := _number(entry.get(name))) is not None}
        found["instrument"] = {"name": _text(entry.get("instrument/name"))}
        found["daslogs"] = _logs(entry.get("DASlogs"))
    return {"entry": found}


def _logs(group: Any) -> dict[str, dict[str, object]]:
    logs: dict[str, dict[str, object]] = {}
    if not isinstance(group, h5py.Group):
        return logs
    for name in list(group)[:_MAX_LOGS]:
        log = group.get(name)
        if isinstance(log, h5py.Group) and "average_value" in log:
            logs[name.lower()] = {
                "average_value": _number(log["average_value"]),
                "device_name": _text(log.get("device_name")),
            }
    return logs


def _text(dataset: Any) -> str | None:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "SO" or not dataset.size:
        return None
    value = np.ravel(dataset[()])[0]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "")[:_MAX_TEXT]


def _number(dataset: Any) -> float | int | None:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu" or not dataset.size:
        return None
    value = np.ravel(dataset[()])[0].item()
    return value if isinstance(value, int) or math.isfinite(value) else None
