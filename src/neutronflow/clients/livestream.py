"""Client of the live port: says hello, and hands over what the stream service sends, again after each lost connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final, Protocol

from neutronflow.clients.packetstream import READ_BYTES, read_packets
from neutronflow.domain.adara.packets import ClientHello, encode
from neutronflow.domain.adara.wire import Packet
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

#: Where the stream is to begin: now, or with the run that is being taken.
FROM_NOW: Final = 0
FROM_RUN_START: Final = 1
#: Flag of a hello: with what was taken in pauses.
SEND_PAUSE_DATA: Final = 2

_CONNECT_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0


class Follower(Protocol):
    """Whoever follows the stream."""

    def connected(self) -> None:
        """A connection begins: what comes now begins with a prologue, and says all that there is to know."""

    def packets(self, packets: Sequence[Packet], size: int) -> None:
        """The packets that a read of ``size`` bytes has completed; their payloads are valid during this call only."""

    def lost(self, reason: str) -> None:
        """The connection has ended."""


class LiveStream:
    """The stream at ``host:port``, as a client that asked for it with ``start`` and ``flags`` gets it."""

    def __init__(
        self, host: str, port: int, *, start: int, flags: int = SEND_PAUSE_DATA, silence_s: float = 30.0
    ) -> None:
        self.host, self.port = host, port
        self._hello = encode(ClientHello(start, flags), 0, 0)
        self._silence_s = silence_s
        #: Connections that ended with something that was no packet.
        self.bad = 0

    async def follow(self, follower: Follower) -> None:
        """Hand over the stream until cancelled; it comes again for ever, with pauses that grow."""

        async def take(packets: list[Packet], data: bytes, problem: str) -> None:
            self.bad += bool(problem)
            follower.packets(packets, len(data))
            # Catching up with a long run must not keep everything else waiting.
            await asyncio.sleep(0)

        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    reader, writer = await asyncio.open_connection(self.host, self.port, limit=2 * READ_BYTES)
            except (OSError, TimeoutError) as error:
                log.debug("stream_away", detail=str(error) or type(error).__name__)
            else:
                try:
                    writer.write(self._hello)
                    follower.connected()
                    reason = await read_packets(reader, self._silence_s, "the stream service", take)
                    pause = _FIRST_PAUSE_S
                finally:
                    writer.close()
                log.warning("stream_lost", detail=reason)
                follower.lost(reason)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE_S)
