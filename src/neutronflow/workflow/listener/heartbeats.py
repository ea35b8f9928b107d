"""Heartbeats and answers to pings: what a process says of itself."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from neutronflow.domain.messages.combus import Sender
from neutronflow.domain.messages.run import BadMessage, decode_object
from neutronflow.store.connection import Connection
from neutronflow.store.named import query
from neutronflow.store.text import storable

MAX_BYTES = 64 * 1024
#: So many processes at most are remembered at once; what a flood of made-up names says beyond is dropped.
MAX_NAMES = 10_000
_LONGEST = {"name": 255, "pid": 32, "role": 32, "status": 255}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One process, as it says it is."""

    name: str
    pid: str = ""
    role: str = ""
    status: str = ""
    #: Of which instrument it is; empty for the services of all.
    facility: str = ""
    instrument: str = ""


def read_status(body: bytes, sender: Sender) -> Heartbeat:
    """Read the status of an instrument's process, which is the same after a restart. Raises :class:`BadMessage`."""
    said = decode_object(body, MAX_BYTES)
    # SMS_18617 is a process, DASMON_0 only the first of its kind.
    number = _text(said, "src_id", "name").rpartition("_")[2]
    pid = number if number.isascii() and number.isdigit() and 1 < len(number) < 11 else ""
    name = f"{sender.facility}/{sender.instrument} {sender.process}"
    return Heartbeat(name, pid, sender.process, _text(said, "status", "status"), sender.facility, sender.instrument)


def read_heartbeat(body: bytes) -> Heartbeat:
    """Read a heartbeat or an answer to a ping. Raises :class:`BadMessage`.

    Processes name themselves in ``src_name`` or ``src_id``; scalars may be numbers, or text that holds them.
    """
    values = decode_object(body, MAX_BYTES)
    name = _text(values, "src_name", "name") or _text(values, "src_id", "name")
    if not name:
        raise BadMessage(detail="it does not say whose heartbeat it is ('src_name' or 'src_id')")
    return Heartbeat(
        name, _text(values, "pid", "pid"), _text(values, "role", "role"), _text(values, "status", "status")
    )


def _text(values: dict[str, Any], key: str, column: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadMessage(detail=f"'{key}' is not text")
    try:
        text = str(value).strip()
    except ValueError as error:  # a number of thousands of digits
        raise BadMessage(detail=f"'{key}' is too large a number") from error
    if "\0" in text or len(text) > _LONGEST[column]:
        raise BadMessage(detail=f"'{key}' is longer than {_LONGEST[column]} characters or holds a NUL")
    return storable(text)


class Presence:
    """The newest heartbeat of each process that is not stored yet, and when pages were last told of each."""

    def __init__(self, announce_every_s: float) -> None:
        self._announce_every_s = announce_every_s
        self._new: dict[str, Heartbeat] = {}
        self._announced: dict[str, tuple[Heartbeat, float]] = {}

    def note(self, heartbeat: Heartbeat) -> bool:
        """Keep it for storing; False where there are too many names."""
        if heartbeat.name not in self._new and len(self._new) >= MAX_NAMES:
            return False
        self._new[heartbeat.name] = heartbeat
        return True

    def take(self) -> list[Heartbeat]:
        """What is to be stored, in a fixed order; it counts as taken."""
        taken, self._new = sorted(self._new.values(), key=lambda one: one.name), {}
        return taken

    def worth_telling(self, stored: Collection[Heartbeat]) -> bool:
        """Whether open pages are to be told: a process is new, has changed, or was last told of long enough ago."""
        now = time.monotonic()
        due = [one for one in stored if self._is_due(one, now)]
        self._announced.update({one.name: (one, now) for one in due})
        if len(self._announced) > 2 * MAX_NAMES:
            self._announced.clear()
        return bool(due)

    def _is_due(self, heartbeat: Heartbeat, now: float) -> bool:
        told, when = self._announced.get(heartbeat.name, (None, 0.0))
        return told != heartbeat or now - when >= self._announce_every_s


async def store_heartbeats(connection: Connection, heartbeats: Collection[Heartbeat], *, tell: bool) -> None:
    """Store them; the caller commits."""
    values: dict[str, list[object]] = {
        "names": [one.name for one in heartbeats],
        "pids": [one.pid for one in heartbeats],
        "roles": [one.role for one in heartbeats],
        "statuses": [one.status for one in heartbeats],
        "facilities": [one.facility for one in heartbeats],
        "instruments": [one.instrument for one in heartbeats],
    }
    await connection.execute(query("upsert_service_status"), values)
    if tell:
        await connection.execute(query("announce_service"))
