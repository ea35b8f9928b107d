"""Clients of a data source: they connect, say nothing, and are sent everything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from neutronflow.foundation.service import listen
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

_BACKLOG = 8


class Clients:
    """Listens, and sends to all who have connected. Use it as an asynchronous context manager.

    A client that leaves more than ``buffer_bytes`` unread is dropped; ``greeting`` gives what a new one is sent first.
    """

    def __init__(
        self, name: str, host: str, port: int, buffer_bytes: int, greeting: Callable[[], bytes] | None = None
    ) -> None:
        self._name = name
        self._where = (host, port)
        self._buffer_bytes = buffer_bytes
        self._greeting = greeting
        self._transports: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None
        #: How many clients were dropped because they did not read.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._transports)

    async def __aenter__(self) -> Self:
        listener = listen(f"simulator's {self._name}", *self._where, _BACKLOG)
        self._server = await asyncio.get_running_loop().create_server(lambda: _Client(self), sock=listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for transport in list(self._transports):
            transport.close()

    def send(self, data: bytes | bytearray) -> None:
        """Send to every client."""
        for transport in list(self._transports):
            if transport.is_closing():
                continue
            if transport.get_write_buffer_size() + len(data) > self._buffer_bytes:
                self.dropped += 1
                log.warning("slow_client_dropped", source=self._name, peer=_peer(transport))
                self._transports.discard(transport)
                transport.abort()
                continue
            transport.write(data)

    def joined(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        log.info("client_connected", source=self._name, peer=_peer(transport))
        if self._greeting is not None:
            transport.write(self._greeting())
        self._transports.add(transport)

    def left(self, transport: asyncio.Transport) -> None:
        """A client has gone."""
        log.info("client_gone", source=self._name, peer=_peer(transport))
        self._transports.discard(transport)


class _Client(asyncio.Protocol):
    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream server makes
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self._clients.joined(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._transport is not None:
            self._clients.left(self._transport)


def _peer(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if peer else "?"
