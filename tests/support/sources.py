"""Sources for the stream service: servers that send what they are given, paced, with time stamps of now."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from neutronflow.domain.adara.packets import Empty, SourceList, decode, encode
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX, HEADER_BYTES, PacketType
from tests.support.streams import packets

DATA = Path(__file__).parents[1] / "data" / "adara"


def stamped(packet: bytes, unix_ns: int) -> bytes:
    """A packet with another time stamp."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return packet[:8] + struct.pack("<II", seconds - EPICS_EPOCH_UNIX, nanoseconds) + packet[HEADER_BYTES:]


def recorded_packets(name: str) -> list[tuple[int, bytes]]:
    """Base type and bytes of each packet of a recording."""
    data = (DATA / name).read_bytes()
    found = packets(data)
    ends = [*(packet.offset for packet in found[1:]), len(data)]
    return [(packet.base, data[packet.offset : end]) for packet, end in zip(found, ends, strict=True)]


def detector_pulses() -> list[list[bytes]]:
    """The recorded detector source's packets by pulse, each RTDL first."""
    pulses: list[list[bytes]] = []
    for base, data in recorded_packets("raw_gen.adara"):
        if base == PacketType.RTDL:
            pulses.append([])
        pulses[-1].append(data)
    return pulses


def slow_greeting() -> bytes:
    """What the recorded slow-control source sends first: an empty SOURCE_LIST, descriptors and values."""
    parts = []
    for base, data in recorded_packets("raw_pvsd.adara"):
        if isinstance(decode(packets(data)[0]), Empty):
            break
        if base == PacketType.SOURCE_LIST and parts:
            break
        assert isinstance(decode(packets(data)[0]), SourceList) or base >= PacketType.DEVICE_DESCRIPTOR
        parts.append(data)
    return b"".join(parts)


def detector_stream(hz: float = 60.0) -> Iterator[bytes]:
    """The recorded pulses again and again, now, one each time it is asked; each asks for its own time."""
    pulses = detector_pulses()
    begun = time.time_ns()
    number = 0
    while True:
        due = begun + int(number * 1e9 / hz)
        time.sleep(max(0.0, (due - time.time_ns()) / 1e9))
        yield b"".join(stamped(packet, due) for packet in pulses[number % len(pulses)])
        number += 1


def slow_stream() -> Iterator[bytes]:
    """The recorded descriptors and values, then heartbeats."""
    yield slow_greeting()
    heartbeat = encode(Empty(data_done=False), 0, 0)
    while True:
        time.sleep(1.0)
        yield stamped(heartbeat, time.time_ns())


class SourceServer:
    """Serves each client the pieces that ``stream`` gives; what was sent is kept."""

    def __init__(self, port: int, stream: Callable[[], Iterator[bytes]]) -> None:
        self._stream = stream
        self._listener = socket.create_server(("127.0.0.1", port), backlog=5)
        self._stopping = False
        self._connection: socket.socket | None = None
        self.sent: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            with connection:
                try:
                    for piece in self._stream():
                        if self._stopping:
                            return
                        connection.sendall(piece)
                        self.sent.append(piece)
                except OSError:
                    continue

    def drop(self) -> None:
        """Break the connection; the client may come again."""
        if self._connection is not None:
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_quietly()
        self._thread.join(10)

    def drop_quietly(self) -> None:
        try:
            self.drop()
        except OSError:
            return
