"""Messages that could not be understood or applied: kept whole, with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neutronflow.foundation.broker.message import Message
from neutronflow.store.connection import Connection
from neutronflow.store.named import query
from neutronflow.store.seen import message_key
from neutronflow.store.text import storable


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message to be kept. ``source`` is the service that could not understand it, ``key`` its deduplication key."""

    source: str
    destination: str
    reason: str
    headers: Mapping[str, str]
    body: bytes
    key: str

    @classmethod
    def of(cls, message: Message, source: str, reason: str) -> DeadLetter:
        """A message that ``source`` has received and cannot use."""
        return cls(source, message.destination.name, reason, message.headers, message.body, message_key(message))


async def keep_dead_letters(connection: Connection, dead: Sequence[DeadLetter]) -> None:
    """Keep these, whole. Text that PostgreSQL cannot hold is mended in headers and reason, never in the body."""
    if not dead:
        return
    values: dict[str, list[object]] = {
        "sources": [storable(one.source)[:64] for one in dead],
        "destinations": [storable(one.destination)[:255] for one in dead],
        "reasons": [storable(one.reason) for one in dead],
        "headers": [json.dumps({storable(key): storable(value) for key, value in one.headers.items()}) for one in dead],
        "bodies": [one.body for one in dead],
    }
    await connection.execute(query("keep_dead_letters"), values)
