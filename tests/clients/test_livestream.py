"""The client of the live port, with a server that breaks off, talks nonsense, and comes again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from neutronflow.clients.livestream import FROM_RUN_START, LiveStream
from neutronflow.domain.adara.packets import ClientHello, Empty, decode, encode
from neutronflow.domain.adara.wire import Packet
from tests.support.streams import packets

HEARTBEAT = encode(Empty(data_done=False), 0, 0)
Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


class Heard:
    """Notes what a follower is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.count = 0

    def connected(self) -> None:
        self.said.append("connected")

    def packets(self, packets: Sequence[Packet], size: int) -> None:
        del size
        self.count += len(packets)

    def lost(self, reason: str) -> None:
        self.said.append(reason)


def follow(serve: Serving, until: Callable[[Heard], bool], **options: Any) -> tuple[Heard, LiveStream, list[object]]:
    """Follow a server until something has been heard."""
    hellos: list[object] = []

    async def work() -> tuple[Heard, LiveStream, list[object]]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hellos.extend(decode(one) for one in packets(await reader.readexactly(24)))
            try:
                await serve(reader, writer, len(hellos))
            finally:
                writer.close()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            heard = Heard()
            port = server.sockets[0].getsockname()[1]
            stream = LiveStream("127.0.0.1", port, start=FROM_RUN_START, **options)
            task = asyncio.create_task(stream.follow(heard))
            async with asyncio.timeout(20):
                while not until(heard):  # noqa: ASYNC110 - the condition is the test's
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return heard, stream, hellos

    return asyncio.run(work())


def test_it_says_hello_and_comes_again_after_each_end() -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(HEARTBEAT * 3 + HEARTBEAT[:7])  # and off in the middle of a packet

    heard, _, hellos = follow(serve, lambda one: one.count >= 9)
    assert hellos[0] == ClientHello(FROM_RUN_START, 2)
    assert heard.said[:3] == ["connected", "the stream service has closed the connection", "connected"]


def test_nonsense_ends_the_connection_and_is_counted() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(HEARTBEAT + (b"\x03\0\0\0 no packet at all" if number == 1 else HEARTBEAT))
        await reader.read()

    heard, stream, _ = follow(serve, lambda one: one.count >= 3)
    assert stream.bad == 1
    assert "multiple of 4" in heard.said[1]


def test_a_server_that_falls_silent_is_left() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        writer.write(HEARTBEAT)
        await reader.read()

    heard, _, _ = follow(serve, lambda one: one.count >= 2, silence_s=0.2)
    assert heard.said[1] == "it was silent for 0.2 s"
