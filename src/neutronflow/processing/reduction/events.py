"""Read event runs: SNS-style NeXus files with ``bankN_events`` and beam monitors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import msgspec
import numpy as np
import scipp as sc
from numpy.typing import NDArray

from neutronflow.foundation.errors import NeutronflowError

#: How many events are held in memory at a time.
CHUNK_EVENTS = 4_000_000

_BANK = re.compile(r"bank(?P<number>\d+)_events\Z")
_MONITOR = re.compile(r"monitor(?P<number>\d+)\Z")


class NotAnEventFile(NeutronflowError):
    """{path} cannot be reduced: {detail}."""

    code = "not-an-event-file"


class Bank(msgspec.Struct, frozen=True, kw_only=True):
    """One detector bank: its events as they lie in the file, and its pixels in the order of the pixel map."""

    number: int
    events: Any
    #: Logical pixel ids, uint32; empty if the file has no pixel map.
    pixel_ids: NDArray[np.uint32]

    def chunks(self) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.float64]]]:
        """The events, piece by piece: pixel ids (uint32) and times of flight (float64, µs), of equal length."""
        ids, tofs = self.events["event_id"], self.events["event_time_offset"]
        to_us = float(sc.to_unit(sc.scalar(1.0, unit=_text(tofs.attrs.get("units", "us"))), "us").value)
        for begin in range(0, ids.shape[0], CHUNK_EVENTS):
            window = slice(begin, begin + CHUNK_EVENTS)
            yield ids[window], tofs[window].astype(np.float64) * to_us


class EventFile:
    """An open event file. Use it as a context manager. Raises :class:`NotAnEventFile`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise NotAnEventFile(path=path, detail=str(error)) from error
        if not isinstance(self._file.get("entry"), h5py.Group):
            self._file.close()
            raise NotAnEventFile(path=path, detail="it has no group 'entry'")
        self.entry: h5py.Group = self._file["entry"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def text(self, name: str, default: str = "") -> str:
        """A text of the entry by its path, or ``default``."""
        dataset = self.entry.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.size == 0:
            return default
        return _text(np.ravel(dataset[()])[0])

    def number(self, name: str, unit: str) -> sc.Variable | None:
        """A number of the entry with its unit (``unit`` if the file gives none), or ``None``."""
        dataset = self.entry.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.size == 0:
            return None
        return sc.scalar(float(np.ravel(dataset[()])[0]), unit=_unit(dataset.attrs.get("units", ""), unit))

    def log_value(self, name: str) -> float | None:
        """The mean value of a process variable in the run, or ``None``."""
        log = self.entry.get(f"DASlogs/{name}")
        if not isinstance(log, h5py.Group):
            return None
        for part in ("average_value", "value"):
            dataset = log.get(part)
            if isinstance(dataset, h5py.Dataset) and dataset.size and dataset.dtype.kind in "fiu":
                return float(np.mean(dataset[()]))
        return None

    @property
    def simulated(self) -> bool:
        """Whether the file says that nobody has measured this."""
        said = self.entry.attrs.get("simulated", False)
        return _text(np.ravel(said)[0]).strip().lower() in {"true", "1", "yes"} if np.size(said) else False

    @property
    def instrument(self) -> str:
        """The instrument's short name, upper case (``HYS``)."""
        name = self.entry.get("instrument/name")
        short = name.attrs.get("short_name") if name is not None else None
        found = (_text(short) if short is not None else self.text("instrument/name")).strip().upper()
        if not re.fullmatch(r"[A-Z0-9][A-Z0-9_-]{0,19}", found):
            raise NotAnEventFile(path=self.path, detail=f"its instrument has no usable name: {found[:40]!r}")
        return found

    @property
    def run_number(self) -> int:
        """The run number."""
        text = self.text("run_number").strip()
        if not re.fullmatch(r"\d{1,10}", text):
            raise NotAnEventFile(path=self.path, detail=f"its run number is no number: {text[:40]!r}")
        return int(text)

    def banks(self) -> list[Bank]:
        """The detector banks by number, without what could not be mapped to a pixel."""
        found = []
        for name, group in self.entry.items():
            match = _BANK.match(name)
            if match and isinstance(group, h5py.Group) and {"event_id", "event_time_offset"} <= set(group):
                ids = self.entry.get(f"instrument/bank{match['number']}/pixel_id")
                pixels = ids[()].astype(np.uint32).ravel() if ids is not None else np.empty(0, np.uint32)
                found.append(Bank(number=int(match["number"]), events=group, pixel_ids=pixels))
        if not found:
            raise NotAnEventFile(path=self.path, detail="it has no bank with events")
        return sorted(found, key=lambda bank: bank.number)

    def monitor_counts(self) -> dict[str, int]:
        """The counts of each beam monitor, by its name in the file."""
        counts = {}
        for name, group in self.entry.items():
            if _MONITOR.match(name) and isinstance(group, h5py.Group) and "event_time_offset" in group:
                counts[name] = int(group["event_time_offset"].shape[0])
        return counts


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _unit(written: object, default: str) -> str:
    text = _text(written)
    return {"picoCoulombs": "pC", "picoCoulomb": "pC", "second": "s", "": default}.get(text, text)
