"""Sources: detectors and slow controls, to which the service connects, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neutronflow.clients.packetstream import READ_BYTES, read_packets
from neutronflow.domain.adara.wire import Packet
from neutronflow.foundation.errors import ConfigurationError
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

_CONNECT_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 5.0
#: What could not be understood is kept for inspection: so many pieces of a source, the oldest go.
_KEPT: Final = 20
_KEPT_BYTES: Final = 1 << 20


@dataclass(slots=True)
class SourceStatus:
    """How a source is doing."""

    connected: bool = False
    since: float = 0.0
    packets: int = 0
    bytes: int = 0
    bad: int = 0
    #: When it was last heard, Unix seconds.
    heard: float = 0.0


class Source:
    """One source of the stream, ``where`` (host:port) it listens."""

    def __init__(
        self,
        name: str,
        where: str,
        *,
        detectors: bool,
        silence_s: float,
        bad_folder: Path,
    ) -> None:
        self.name = name
        self.detectors = detectors
        host, _, port = where.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigurationError(where="[stream] sources", detail=f"{where!r} is not host:port")
        self._host, self._port = host, int(port)
        self._silence_s = silence_s
        self._bad_folder = bad_folder
        self.status = SourceStatus()

    async def read_forever(
        self,
        take: Callable[[Source, list[Packet]], Awaitable[None]],
        came: Callable[[Source], Awaitable[None]],
        lost: Callable[[Source], Awaitable[None]],
    ) -> None:
        """Read until cancelled.

        ``take`` gets the packets of each read, whose payloads it must not keep; ``came`` and ``lost`` are told when the
        source is there and when it is not any more.
        """
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    reader, writer = await asyncio.open_connection(self._host, self._port, limit=2 * READ_BYTES)
            except (OSError, TimeoutError) as error:
                log.info("source_away", source=self.name, detail=str(error) or type(error).__name__, again_s=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            self.status.connected, self.status.since = True, time.time()
            log.info("source_connected", source=self.name)
            try:
                await came(self)
                reason = await self._read(reader, take)
                pause = _FIRST_PAUSE_S
            finally:
                writer.close()
                self.status.connected, self.status.since = False, time.time()
            log.warning("source_lost", source=self.name, detail=reason)
            await lost(self)
            await asyncio.sleep(pause)

    async def _read(self, reader: asyncio.StreamReader, take: Callable[[Source, list[Packet]], Awaitable[None]]) -> str:
        """Read one connection to its end, whose reason is returned."""

        async def taken(packets: list[Packet], data: bytes, problem: str) -> None:
            self.status.heard = time.time()
            self.status.bytes += len(data)
            self.status.packets += len(packets)
            if packets:
                await take(self, packets)
            if problem:
                self.keep(data, problem)

        return await read_packets(reader, self._silence_s, "it", taken)

    def keep(self, data: bytes | memoryview, reason: str) -> None:
        """Count and keep what cannot be understood."""
        self.status.bad += 1
        log.warning("bad_input", source=self.name, detail=reason, bad=self.status.bad)
        try:
            self._bad_folder.mkdir(parents=True, exist_ok=True)
            path = self._bad_folder / f"{self.name}-{time.time_ns()}"
            path.with_suffix(".bin").write_bytes(bytes(data[:_KEPT_BYTES]))
            path.with_suffix(".txt").write_text(reason + "\n")
            for old in sorted(self._bad_folder.glob(f"{self.name}-*"))[: -2 * _KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("bad_input_not_kept", source=self.name, detail=str(error))
