"""Packets from a connection, read by read: what the live port's clients and the stream service's sources have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from neutronflow.domain.adara.wire import BadPacket, Packet, PacketReader

READ_BYTES: Final = 1 << 20

#: Gets what a read has completed, its bytes, and what was wrong with them: then it was the last. Empty if nothing.
Take = Callable[[list[Packet], bytes, str], Awaitable[None]]


async def read_packets(reader: asyncio.StreamReader, silence_s: float, who: str, take: Take) -> str:
    """Read a connection to its end, whose reason is given back. Payloads are valid while ``take`` runs."""
    packets = PacketReader()
    while True:
        try:
            async with asyncio.timeout(silence_s):
                data = await reader.read(READ_BYTES)
        except TimeoutError:
            return f"it was silent for {silence_s:g} s"
        except OSError as error:
            return str(error)
        if not data:
            return f"{who} has closed the connection"
        found: list[Packet] = []
        problem = ""
        try:
            found.extend(packets.feed(data))
        except BadPacket as error:
            problem = str(error)
        await take(found, data, problem)
        if problem:
            return problem
