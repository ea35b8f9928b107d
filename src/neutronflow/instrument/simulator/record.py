"""The simulator's own record of what it drew, made from the drawn numbers and not from what was sent.

A finished NeXus file can so be compared with what there was, without any of our writers or readers of the stream. In the
folder ``<data_dir>/simulator/records`` there are two files a minute (``<minute>`` is Unix time divided by 60, of the pulses or
values in it):

* ``pulses-<minute>.bin``: rows of :data:`PULSE`, one a pulse that was sent to anybody, in the order of time.
* ``variables-<minute>.jsonl``: one JSON object a line, a value of a process variable: ``time_ns`` (Unix), ``name`` (the EPICS
  channel), ``value``, ``status``, ``severity``.

Each row and line is written by one call of the system before it is sent: so a killed process leaves a whole record of all that
it has sent. Which pulses belong to a run is what the NeXus file says (first and last time); :func:`read_pulses` gives them.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.simulator.layout import BANKS, MONITORS
from neutronflow.instrument.simulator.pulses import Pulse, pulse_id
from neutronflow.instrument.simulator.slowcontrol import Reading

log = get_logger(__name__)

#: One pulse. ``monitors`` are events by beam monitor, in the order of their numbers, ``banks`` events by bank from bank 1 on.
PULSE: Final = np.dtype(
    [("pulse_id", "<u8"), ("charge_10pc", "<u4"), ("monitors", "<u4", (len(MONITORS),)), ("banks", "<u4", (BANKS,))]
)

Rows: TypeAlias = "npt.NDArray[Any]"


class Record:
    """Writes the record, and takes away what is older than ``keep_minutes``."""

    def __init__(self, folder: Path, keep_minutes: int) -> None:
        self.folder = folder
        self._keep = keep_minutes
        self._pulses = _Minutes(folder, "pulses", "bin")
        self._variables = _Minutes(folder, "variables", "jsonl")
        #: Pulses and values that could not be written.
        self.lost = 0
        self._told = -1
        folder.mkdir(parents=True, exist_ok=True)

    def pulse(self, pulse: Pulse) -> None:
        """Take a pulse."""
        row = np.zeros(1, PULSE)
        row["pulse_id"], row["charge_10pc"] = pulse_id(pulse.number), pulse.charge_10pc
        row["monitors"] = [len(pulse.monitors[number]) for number in MONITORS]
        row["banks"] = pulse.bank_counts
        seconds = (int(row["pulse_id"][0]) >> 32) + EPICS_EPOCH_UNIX
        self._write(self._pulses, seconds // 60, row.tobytes(), PULSE.itemsize)

    def reading(self, reading: Reading) -> None:
        """Take a value of a process variable."""
        line = msgspec.json.encode(reading) + b"\n"
        self._write(self._variables, reading.time_ns // 60_000_000_000, line)

    def close(self) -> None:
        """Close its files."""
        self._pulses.close()
        self._variables.close()

    def _write(self, into: _Minutes, minute: int, data: bytes, row_bytes: int = 1) -> None:
        """A disk that is full or broken is no reason to switch the beam off: the record then has a gap."""
        try:
            if into.write(minute, data, row_bytes):
                self._forget(minute - self._keep)
        except OSError as error:
            self.lost += 1
            if minute != self._told:
                self._told = minute
                log.error("record_has_a_gap", detail=str(error), lost=self.lost)

    def _forget(self, before: int) -> None:
        for path in (*self.folder.glob("pulses-*.bin"), *self.folder.glob("variables-*.jsonl")):
            minute = path.stem.partition("-")[2]
            if minute.isdigit() and int(minute) < before:
                path.unlink(missing_ok=True)


def read_pulses(folder: Path, first_id: int, last_id: int) -> Rows:
    """The record of the pulses from one pulse id to another, both included: rows of :data:`PULSE`, shape (pulses,)."""
    minutes = range((first_id >> 32) + EPICS_EPOCH_UNIX, (last_id >> 32) + EPICS_EPOCH_UNIX + 60, 60)
    files = [folder / f"pulses-{second // 60}.bin" for second in minutes]
    parts = [np.fromfile(path, PULSE) for path in files if path.exists()]
    rows = np.concatenate(parts) if parts else np.empty(0, PULSE)
    found: Rows = rows[(rows["pulse_id"] >= first_id) & (rows["pulse_id"] <= last_id)]
    return found


def read_variables(folder: Path, first_ns: int, last_ns: int) -> list[Reading]:
    """The values between two times (Unix ns), both included."""
    readings = []
    for minute in range(first_ns // 60_000_000_000, last_ns // 60_000_000_000 + 1):
        path = folder / f"variables-{minute}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            reading = Reading(**json.loads(line))
            if first_ns <= reading.time_ns <= last_ns:
                readings.append(reading)
    return readings


class _Minutes:
    """One file a minute, which only grows."""

    def __init__(self, folder: Path, name: str, extension: str) -> None:
        self._folder, self._name, self._extension = folder, name, extension
        self._minute = -1
        self._handle: int | None = None

    def write(self, minute: int, data: bytes, row_bytes: int = 1) -> bool:
        """Append; whether that began another minute. What is no whole row at a file's end is cut off first."""
        began = minute != self._minute
        if began or self._handle is None:
            self.close()
            path = self._folder / f"{self._name}-{minute}.{self._extension}"
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            size = os.fstat(self._handle).st_size
            os.ftruncate(self._handle, size - size % row_bytes)
            self._minute = minute
        written = os.write(self._handle, data)
        if written < len(data):
            os.ftruncate(self._handle, os.fstat(self._handle).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return began

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
