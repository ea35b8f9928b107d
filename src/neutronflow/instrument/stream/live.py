"""The live port: clients say hello and get the stream, from now on or from the beginning of the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Final

from neutronflow.domain.adara.clock import now
from neutronflow.domain.adara.packets import ClientHello, RunStatusCode, Sync, decode, encode
from neutronflow.domain.adara.wire import BadPacket, PacketReader
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.stream.settings import StreamSettings
from neutronflow.instrument.stream.spool import Piece, Spool

log = get_logger(__name__)

_LONGEST_HELLO: Final = 1024
_PIECE_BYTES: Final = 2 << 20
#: Flags of a hello.
_NO_PAUSE_DATA: Final = 1
#: Starts that are no times.
_FROM_NOW, _FROM_RUN_START = 0, 1
_ACCEPT_AGAIN_S: Final = 1.0


class LiveServer:
    """Serves live clients. Each follows the spool at its own pace; one that reads nothing holds up nobody."""

    def __init__(self, spool: Spool, settings: StreamSettings, prologue: Callable[[], bytes]) -> None:
        self._spool = spool
        self._settings = settings
        #: The prologue of one who joins.
        self._prologue = prologue
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._tasks)

    async def serve_forever(self, listener: socket.socket) -> None:
        """Take clients until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, address = await loop.sock_accept(listener)
                except OSError as error:
                    log.error("no_connection_accepted", detail=str(error))
                    await asyncio.sleep(_ACCEPT_AGAIN_S)
                    continue
                if len(self._tasks) >= self._settings.max_clients:
                    log.warning("live_client_refused", client=str(address), clients=len(self._tasks))
                    connection.close()
                    continue
                task = asyncio.create_task(self._serve(connection, f"{address[0]}:{address[1]}"))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, connection: socket.socket, client: str) -> None:
        with connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(self._settings.hello_s):
                    hello = await _read_hello(connection)
            except TimeoutError:
                log.warning("live_client_dropped", client=client, detail="it did not say hello")
                return
            except (BadPacket, OSError) as error:
                log.warning("live_client_dropped", client=client, detail=str(error))
                return
            log.info("live_client", client=client, start=hello.start, flags=hello.flags)
            try:
                await self._send(connection, hello)
            except OSError as error:
                log.info("live_client_gone", client=client, detail=str(error))

    async def _send(self, connection: socket.socket, hello: ClientHello) -> None:
        loop = asyncio.get_running_loop()
        gone = asyncio.create_task(_closed(connection))
        try:
            # Nothing is awaited between the snapshot and where the stream goes on.
            await self._spool.flush()
            paused = not (hello.flags or 0) & _NO_PAUSE_DATA
            if hello.start == _FROM_NOW:
                snapshot = encode(Sync(0), *now()) + self._spool.status(RunStatusCode.STATE) + self._prologue()
                pieces = self._spool.follow_from(
                    self._spool.current, self._spool.file, self._spool.file.size, paused=paused
                )
                await loop.sock_sendall(connection, snapshot)
            else:
                pieces = self._since(hello.start, paused=paused)
            sending = asyncio.create_task(_copy(pieces, connection))
            try:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sending
        finally:
            gone.cancel()

    def _since(self, start: int, *, paused: bool) -> AsyncIterator[Piece]:
        """From the beginning of the current run, or of the newest file that began before ``start`` (EPICS seconds).

        So data older than asked may come; every file begins with the prologue.
        """
        container, file = self._spool.current, self._spool.current.files[0]
        if start != _FROM_RUN_START:
            for one in self._spool.containers:
                for candidate in one.files:
                    begun = _begun(candidate.path)
                    if begun is not None and begun <= start:
                        container, file = one, candidate
        return self._spool.follow_from(container, file, 0, paused=paused)


def _begun(path: os.PathLike[str]) -> int | None:
    """When a file was begun, EPICS seconds: the time stamp of its first packet."""
    with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - a path of the spool
        head = file.read(16)
        if len(head) == 16:
            return int.from_bytes(head[8:12], "little")
    return None


async def _read_hello(connection: socket.socket) -> ClientHello:
    loop = asyncio.get_running_loop()
    reader = PacketReader(_LONGEST_HELLO)
    while data := await loop.sock_recv(connection, _LONGEST_HELLO):
        for packet in reader.feed(data):
            hello = decode(packet)
            if not isinstance(hello, ClientHello):
                raise BadPacket(offset=packet.offset, detail=f"a packet of type {packet.base:#06x} is no hello")
            return hello
    raise ConnectionResetError("it has gone without a hello")


async def _closed(connection: socket.socket) -> None:
    """Until the client has gone; what it says after its hello is not heard."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(connection, 4096):  # noqa: ASYNC110 - slowly, whatever it says
            await asyncio.sleep(0.1)


async def _copy(pieces: AsyncIterator[Piece], connection: socket.socket) -> None:
    async for piece in pieces:
        await send_piece(connection, piece)


async def send_piece(connection: socket.socket, piece: Piece) -> None:
    """Send it, without a copy of it in this process."""
    loop = asyncio.get_running_loop()
    at = piece.start
    while at < piece.end:
        try:
            count = os.sendfile(connection.fileno(), piece.handle, at, min(piece.end - at, _PIECE_BYTES))
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_writer(connection, _set, ready)
            try:
                await ready
            finally:
                loop.remove_writer(connection)
            continue
        at += count
        # A client that takes all at once must not keep others waiting.
        await asyncio.sleep(0)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
