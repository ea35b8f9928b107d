"""Values that dasmons tell (APP.DASMON): the newest of each key, many messages in one transaction."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from neutronflow.domain.messages.run import decode_object
from neutronflow.store.connection import Connection
from neutronflow.store.named import query
from neutronflow.store.text import storable

MAX_BYTES: Final = 64 * 1024
#: So many keys of an instrument, and so many instruments, are known; what a flood of made-up names says beyond is dropped.
MAX_KEYS: Final = 500
MAX_PLACES: Final = 500
LONGEST: Final = 128
#: A value that stays the same is written again after this time, so that its age is right.
_AGAIN_S: Final = 2.0
#: A message whose own time is older than this was held up; its time is believed then, else it is true now.
_HELD_UP_S: Final = 60.0
#: Numbers whose course is kept.
HISTORY: Final = frozenset({"count_rate", "pulse_charge"})
#: What every message has, and what is no value.
_ENVELOPE: Final = frozenset({"msg_type", "src_id", "dest_id", "correl_id", "timestamp"})
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)


class Place(NamedTuple):
    """An instrument."""

    facility: str
    instrument: str


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a key, true at ``at`` (unix seconds)."""

    place: Place
    key: str
    text: str
    at: float

    @property
    def number(self) -> float | None:
        """The value as a finite number, where it is one."""
        found = float(self.text) if _NUMBER.match(self.text) else math.inf
        return found if math.isfinite(found) else None


def read_values(body: bytes, now: float) -> tuple[dict[str, str], float]:
    """The values of a message and the time (unix seconds) they are of. Raises ``BadMessage``."""
    told = decode_object(body, MAX_BYTES)
    values = dict(_flat(told))
    return values, message_time(told, now)


def message_time(told: Mapping[str, Any], now: float) -> float:
    """When a message was true: when it came, unless it was held up for long."""
    text = str(told.get("timestamp", ""))[:20]
    sent = float(text) if _NUMBER.match(text) else now
    return sent if 0 < sent < now - _HELD_UP_S else now


def _flat(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in told.items():
        if key == "monitors" and isinstance(value, dict):
            for monitor, rate in value.items():
                if isinstance(rate, dict):
                    yield from _scalar(f"monitor_count_{rate.get('id', monitor)}", rate.get("counts"))
                else:
                    yield from _scalar(f"monitor_count_{monitor}", rate)
        elif key not in _ENVELOPE:
            yield from _scalar(key, value)


def _scalar(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, int):
        # Beyond that it would be a word of thousands of digits.
        value = str(value) if abs(value) < 1 << 127 else None
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, str) and 0 < len(key) <= LONGEST:
        yield storable(key), storable(value[:LONGEST])


class Values:
    """The newest value of each key that is not stored yet."""

    def __init__(self) -> None:
        self._new: dict[Place, dict[str, Value]] = {}
        self._stored: dict[Place, dict[str, Value]] = {}

    def note(self, place: Place, values: Mapping[str, str], at: float) -> bool:
        """Keep them for storing; False where some are dropped because there are too many keys or instruments."""
        stored = self._stored.get(place)
        if stored is None:
            if len(self._stored) >= MAX_PLACES:
                return False
            stored = self._stored[place] = {}
        new = self._new.setdefault(place, {})
        whole = True
        for key, text in values.items():
            if key not in stored and key not in new and len(stored) + len(new) >= MAX_KEYS:
                whole = False
                continue
            before = new.get(key)
            if before is None or before.at <= at:
                new[key] = Value(place, key, text, at)
        return whole

    def take(self) -> list[Value]:
        """What is to be stored: changed, or not stored again for a while. It counts as taken."""
        taken = []
        for place, values in self._new.items():
            stored = self._stored[place]
            for key, value in values.items():
                before = stored.get(key)
                if before is None or before.text != value.text or value.at - before.at >= _AGAIN_S:
                    taken.append(value)
                    stored[key] = value
        self._new = {}
        return taken


def place_columns(places: Iterable[Place]) -> dict[str, list[object]]:
    """Instruments as the columns that queries over several unnest."""
    known = list(places)
    return {"facilities": [one.facility for one in known], "names": [one.instrument for one in known]}


async def store_values(connection: Connection, values: Sequence[Value]) -> None:
    """Store them, each newer than what is there; the caller commits."""
    await connection.execute(query("ensure_instruments"), place_columns(dict.fromkeys(one.place for one in values)))
    columns = {
        "keys": [one.key for one in values],
        "values": [one.text for one in values],
        "times": [one.at for one in values],
    }
    await connection.execute(query("upsert_status_values"), {**place_columns(one.place for one in values), **columns})
    numbers = [(one, number) for one in values if one.key in HISTORY and (number := one.number) is not None]
    if numbers:
        columns = {
            "keys": [one.key for one, _ in numbers],
            "numbers": [number for _, number in numbers],
            "times": [one.at for one, _ in numbers],
        }
        places = place_columns(one.place for one, _ in numbers)
        await connection.execute(query("record_status_history"), {**places, **columns})
