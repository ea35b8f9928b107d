"""Framing: a byte stream <-> packets.

Every packet has a header of four little-endian u32: payload length (a multiple of 4), format (base type << 8 | version),
seconds since the EPICS epoch (1990-01-01T00:00:00Z), nanoseconds.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from neutronflow.foundation.errors import NeutronflowError

HEADER_BYTES: Final = 16
#: Unix time of the EPICS epoch, in seconds.
EPICS_EPOCH_UNIX: Final = 631152000
#: What the reference reader takes at most.
MAX_PACKET_BYTES: Final = 0x3000000

_HEADER = struct.Struct("<IIII")


class BadPacket(NeutronflowError):
    """The stream cannot be understood at byte offset {offset}: {detail}."""

    code = "bad-packet"


class TruncatedStream(BadPacket):
    """The stream is truncated: it ended at byte offset {end}, {missing} bytes before the end of the packet that begins at {offset}."""  # noqa: E501

    code = "truncated-stream"


class PacketType(enum.IntEnum):
    """Base types. Below 0x4000 stands what detectors send, from 0x8000 on slow controls."""

    RAW_EVENT = 0x0000
    RTDL = 0x0001
    SOURCE_LIST = 0x0002
    MAPPED_EVENT = 0x0003
    BANKED_EVENT = 0x4000
    BEAM_MONITOR_EVENT = 0x4001
    PIXEL_MAPPING = 0x4002
    RUN_STATUS = 0x4003
    RUN_INFO = 0x4004
    TRANSLATION_COMPLETE = 0x4005
    CLIENT_HELLO = 0x4006
    STREAM_ANNOTATION = 0x4007
    SYNC = 0x4008
    HEARTBEAT = 0x4009
    GEOMETRY = 0x400A
    BEAMLINE_INFO = 0x400B
    DATA_DONE = 0x400C
    BEAM_MONITOR_CONFIG = 0x400D
    DETECTOR_BANK_SETS = 0x400E
    BANKED_EVENT_STATE = 0x4100
    PIXEL_MAPPING_ALT = 0x4102
    DEVICE_DESCRIPTOR = 0x8000
    VARIABLE_U32 = 0x8001
    VARIABLE_DOUBLE = 0x8002
    VARIABLE_STRING = 0x8003
    VARIABLE_U32_ARRAY = 0x8004
    VARIABLE_DOUBLE_ARRAY = 0x8005
    MULTI_VARIABLE_U32 = 0x8101
    MULTI_VARIABLE_DOUBLE = 0x8102
    MULTI_VARIABLE_STRING = 0x8103
    MULTI_VARIABLE_U32_ARRAY = 0x8104
    MULTI_VARIABLE_DOUBLE_ARRAY = 0x8105


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as framed; ``offset`` is where it begins in the stream, in bytes.

    ``payload`` may be a view of the reader's buffer: it is valid until the reader is fed again.
    """

    base: int
    version: int
    seconds: int
    nanoseconds: int
    payload: memoryview
    offset: int

    @property
    def pulse_id(self) -> int:
        """For event and RTDL packets the identity of the pulse: seconds << 32 | nanoseconds."""
        return (self.seconds << 32) | self.nanoseconds

    @property
    def time_ns(self) -> int:
        """The time stamp in nanoseconds since the Unix epoch."""
        return (self.seconds + EPICS_EPOCH_UNIX) * 1_000_000_000 + self.nanoseconds


class PacketReader:
    """Cuts a byte stream, fed in pieces of any size, into packets. After a :class:`BadPacket` it is of no more use."""

    def __init__(self, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._max = max_packet_bytes
        self._tail = b""
        #: Offset in the stream of the first byte that belongs to no packet yet.
        self.offset = 0

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished packet are held."""
        return len(self._tail)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Packet]:
        """The packets that these bytes complete. Consume them all before feeding again."""
        buffer = memoryview(self._tail + bytes(data) if self._tail else data)
        at = 0
        try:
            while len(buffer) - at >= HEADER_BYTES:
                length, form, seconds, nanoseconds = _HEADER.unpack_from(buffer, at)
                check_header(length, nanoseconds, self.offset, self._max)
                end = at + HEADER_BYTES + length
                if end > len(buffer):
                    break
                packet = Packet(
                    form >> 8, form & 0xFF, seconds, nanoseconds, buffer[at + HEADER_BYTES : end], self.offset
                )
                self.offset += end - at
                at = end
                yield packet
        finally:
            self._tail = bytes(buffer[at:])

    def finish(self) -> None:
        """Say that the stream has ended. Raises :class:`TruncatedStream` if it did so inside a packet."""
        if not self._tail:
            return
        length = HEADER_BYTES
        if len(self._tail) >= HEADER_BYTES:
            length += _HEADER.unpack_from(self._tail)[0]
        raise TruncatedStream(
            offset=self.offset, end=self.offset + len(self._tail), missing=length - len(self._tail), detail="truncated"
        )


def check_header(length: int, nanoseconds: int, offset: int, limit: int = MAX_PACKET_BYTES) -> None:
    """Raise :class:`BadPacket` where a header's payload length or nanoseconds cannot be."""
    if length % 4:
        raise BadPacket(offset=offset, detail=f"a payload of {length} bytes is no multiple of 4")
    if length + HEADER_BYTES > limit:
        raise BadPacket(offset=offset, detail=f"a packet of {length + HEADER_BYTES} bytes is longer than {limit}")
    if nanoseconds >= 1_000_000_000:
        raise BadPacket(offset=offset, detail=f"a time stamp has {nanoseconds} nanoseconds")


def encode_packet(
    base: int, version: int, seconds: int, nanoseconds: int, payload: bytes | bytearray | memoryview
) -> bytes:
    """A packet with this payload (length a multiple of 4), ready to be sent."""
    if len(payload) % 4:
        raise ValueError(f"a payload of {len(payload)} bytes is no multiple of 4")
    return _HEADER.pack(len(payload), (base << 8) | version, seconds, nanoseconds) + payload
