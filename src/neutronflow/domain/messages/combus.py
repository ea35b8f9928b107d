"""ComBus: what the beamline's services tell all who listen, in the words of those in use today.

Topics are ``<FACILITY>.<INSTRUMENT>.<CATEGORY>.<PROCESS>``; bodies are JSON objects in which every scalar is text.
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from neutronflow.domain.facility import Facilities
from neutronflow.domain.messages.run import BadMessage
from neutronflow.foundation.broker.message import Outgoing, topic


class MessageType(enum.IntEnum):
    """``msg_type``: category, sender and number in one."""

    LOG = 0x20000000
    STATUS = 0x40000000
    SIGNAL_ASSERTED = 0x80000000
    SIGNAL_RETRACTED = 0x80000001
    SMS_RUN_STATUS = 0xA0200000
    TRANSLATION_STARTED = 0xA0300000
    TRANSLATION_FINISHED = 0xA0300001
    TRANSLATION_FAILED = 0xA0300002
    DASMON_CONNECTION = 0xA0C00000
    DASMON_RUN_STATUS = 0xA0C00001
    DASMON_PAUSE_STATUS = 0xA0C00002
    DASMON_SCAN_STATUS = 0xA0C00003
    DASMON_BEAM_INFO = 0xA0C00004
    DASMON_RUN_INFO = 0xA0C00005
    DASMON_BEAM_METRICS = 0xA0C00006
    DASMON_RUN_METRICS = 0xA0C00007
    DASMON_STREAM_METRICS = 0xA0C00008


#: Topics of processes that tell that they are there, of values, of alarms, and of runs, below facility and instrument.
STATUSES: Final = ("STATUS.DASMON", "STATUS.SMS", "STATUS.PVSD", "STATUS.STC", "STATUS.POSTPROCESS")
VALUES: Final = "APP.DASMON"
SIGNALS: Final = "SIGNAL.DASMON"
RUNS: Final = "APP.SMS"

#: Key beyond today's, in messages about a simulated beamline: ``"true"``.
SIMULATED: Final = "simulated"

Fields: TypeAlias = "Mapping[str, str | Mapping[str, str]]"

#: Before a reason in APP.SMS, beyond today's: data is missing between two times.
GAP: Final = "SMS gap:"


def is_simulated(values: Mapping[str, Any]) -> bool:
    """Whether a message says that it is about a simulated beamline."""
    return str(values.get(SIMULATED, "")).lower() == "true"


def body(message_type: MessageType, source: str, fields: Fields) -> bytes:
    """The body of a message. ``source``: the process and its instance, ``DASMON_0``."""
    envelope = {"msg_type": str(int(message_type)), "src_id": source, "dest_id": "", "timestamp": str(int(time.time()))}
    return msgspec.json.encode({**envelope, **_readable(fields)})


@dataclass(frozen=True, slots=True)
class Sender:
    """A process of a beamline; ``process`` is SMS, DASMON, PVSD or STC."""

    facility: str
    instrument: str
    process: str

    def broadcast(self, category: str, message_type: MessageType, fields: Fields) -> Outgoing:
        """A message to all who listen. ``category``: STATUS, SIGNAL or APP."""
        name = f"{self.facility}.{self.instrument}.{category}.{self.process}"
        content = body(message_type, f"{self.process}_{os.getpid()}", fields)
        return Outgoing(destination=topic(name), body=content, persistent=False)

    @classmethod
    def of_topic(cls, name: str, facilities: Facilities) -> Sender:
        """Who sends to a topic, names checked. Raises :class:`BadMessage` or what ``facilities`` raise."""
        parts = name.split(".")
        if len(parts) != 4:
            raise BadMessage(detail=f"'{name[:80]}' is no topic of a beamline")
        return cls(*facilities.instrument(parts[0], parts[1]), process=parts[3])

    def heartbeat(self) -> Outgoing:
        """The process is alive and well."""
        return self.broadcast("STATUS", MessageType.STATUS, {"status": "0"})


def _readable(fields: Fields) -> dict[str, object]:
    return {name: _text(value) if isinstance(value, str) else _readable(value) for name, value in fields.items()}


def _text(value: str) -> str:
    # Names from a stream may hold bytes that are no UTF-8.
    return value.encode(errors="replace").decode()
