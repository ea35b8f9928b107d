"""Alarms that dasmons assert and retract (SIGNAL.DASMON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from neutronflow.domain.messages.combus import MessageType
from neutronflow.domain.messages.run import BadMessage, decode_object
from neutronflow.store.connection import Connection
from neutronflow.store.named import query
from neutronflow.store.text import storable
from neutronflow.workflow.listener.values import Place, message_time, place_columns

MAX_BYTES: Final = 64 * 1024
#: So many of an instrument that are not stored yet are kept.
MAX_SIGNALS: Final = 500
MAX_PLACES: Final = 500
#: An alarm that was held up for longer says nothing of now.
_OLDEST_S: Final = 3600.0
_LEVELS: Final = range(6)


@dataclass(frozen=True, slots=True)
class Signal:
    """An alarm that is asserted at ``at`` (unix seconds), or retracted: then ``level`` is None."""

    place: Place
    name: str
    at: float
    level: int | None = None
    source: str = ""
    message: str = ""


def read_signal(body: bytes, place: Place, now: float) -> Signal:
    """Read an assertion or retraction. Raises :class:`BadMessage`."""
    told = decode_object(body, MAX_BYTES)
    name = _text(told, "sig_name", 128).strip()
    if not name:
        raise BadMessage(detail="it does not say which signal ('sig_name')")
    at = message_time(told, now)
    retracted = str(told.get("msg_type")) == str(int(MessageType.SIGNAL_RETRACTED))
    if retracted or "sig_level" not in told:
        return Signal(place, name, at)
    if now - at > _OLDEST_S:
        raise BadMessage(detail=f"it was asserted {now - at:.0f} s ago")
    level = _text(told, "sig_level", 8)
    if not level.isascii() or not level.isdigit() or int(level) not in _LEVELS:
        raise BadMessage(detail=f"'sig_level' is no level: {level!r}")
    return Signal(place, name, at, int(level), _text(told, "sig_source", 128), _text(told, "sig_message", 1000))


def _text(told: dict[str, Any], key: str, longest: int) -> str:
    value = told.get(key, "")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadMessage(detail=f"'{key}' is not text")
    try:
        return storable(str(value)[:longest])
    except ValueError as error:  # a number of thousands of digits
        raise BadMessage(detail=f"'{key}' is too large a number") from error


class Signals:
    """The newest word on each alarm that is not stored yet."""

    def __init__(self) -> None:
        self._new: dict[Place, dict[str, Signal]] = {}

    def note(self, signal: Signal) -> bool:
        """Keep it for storing; False where there are too many."""
        if signal.place not in self._new and len(self._new) >= MAX_PLACES:
            return False
        new = self._new.setdefault(signal.place, {})
        if signal.name not in new and len(new) >= MAX_SIGNALS:
            return False
        new[signal.name] = signal
        return True

    def take(self) -> list[Signal]:
        """What is to be stored; it counts as taken."""
        taken = [signal for new in self._new.values() for signal in new.values()]
        self._new = {}
        return taken


async def store_signals(connection: Connection, signals: Sequence[Signal]) -> None:
    """Store what is asserted, and remove what is retracted; the caller commits."""
    asserted = [one for one in signals if one.level is not None]
    retracted = [one for one in signals if one.level is None]
    if retracted:
        columns = {**place_columns(one.place for one in retracted), "signals": [one.name for one in retracted]}
        await connection.execute(query("retract_signals"), columns)
    if asserted:
        await connection.execute(
            query("ensure_instruments"), place_columns(dict.fromkeys(one.place for one in asserted))
        )
        columns = {
            **place_columns(one.place for one in asserted),
            "signals": [one.name for one in asserted],
            "sources": [one.source for one in asserted],
            "messages": [one.message for one in asserted],
            "levels": [one.level for one in asserted],
            "times": [one.at for one in asserted],
        }
        await connection.execute(query("assert_signals"), columns)
