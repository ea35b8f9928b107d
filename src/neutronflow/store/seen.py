"""Which messages have had their effect already (decision 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from neutronflow.foundation.broker.message import Message
from neutronflow.store.connection import Connection
from neutronflow.store.named import query
from neutronflow.store.text import storable

_LONGEST_ID = 64


def message_key(message: Message) -> str:
    """What identifies a message over redeliveries: its nf-id, else the broker's number together with its content."""
    if message.nf_id and len(message.nf_id) <= _LONGEST_ID:
        return f"nf:{storable(message.nf_id)}"
    # A broker that lost its memory may give a number again: with the content beside it, that is no match.
    content = hashlib.sha256(f"{message.destination}\0{message.nf_id}\0".encode(errors="replace") + message.body)
    return f"id:{storable(message.message_id)[:200]}:{content.hexdigest()[:32]}"


async def claim(connection: Connection, keys: Iterable[str]) -> set[str]:
    """Note these keys; those of them that were not there yet."""
    cursor = await connection.execute(query("claim_keys"), {"keys": list(keys)})
    return {str(row[0]) for row in await cursor.fetchall()}
