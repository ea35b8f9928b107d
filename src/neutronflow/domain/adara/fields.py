"""Reading and writing the fields of a payload, with every length checked."""

from __future__ import annotations

import struct
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.wire import BadPacket, Packet, PacketType

U32Array: TypeAlias = npt.NDArray[np.uint32]

_WORD = np.dtype("<u4")


class Cursor:
    """Walks through one packet's payload; a read beyond its end raises :class:`BadPacket`."""

    def __init__(self, packet: Packet) -> None:
        self._packet = packet
        self._data = packet.payload
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def fail(self, detail: str) -> BadPacket:
        """The error to raise for this packet."""
        base = self._packet.base
        name = PacketType(base).name if base in PacketType._value2member_map_ else f"type 0x{base:04x}"
        return BadPacket(offset=self._packet.offset, detail=f"{name}: {detail}")

    def take(self, count: int, what: str) -> memoryview:
        """The next ``count`` bytes."""
        if count > self.left:
            raise self.fail(f"{what} of {count} bytes goes beyond the payload, which has {self.left} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def words(self, count: int, what: str) -> tuple[int, ...]:
        """The next ``count`` u32."""
        return cast(tuple[int, ...], struct.unpack(f"<{count}I", self.take(4 * count, what)))

    def word(self, what: str) -> int:
        """The next u32."""
        return self.words(1, what)[0]

    def double(self, what: str) -> float:
        """The next f64."""
        return cast(float, struct.unpack("<d", self.take(8, what))[0])

    def array(self, count: int, what: str, dtype: str = "<u4") -> npt.NDArray[np.generic]:
        """The next ``count`` numbers, as a view of the payload."""
        kind = np.dtype(dtype)
        return np.frombuffer(self.take(count * kind.itemsize, what), dtype=kind)

    def u32s(self, count: int, what: str) -> U32Array:
        """The next ``count`` u32, as a view of the payload, shape (count,)."""
        return np.frombuffer(self.take(4 * count, what), dtype=_WORD)

    def text(self, length: int, what: str) -> str:
        """The next text of ``length`` bytes, and its padding to a multiple of 4. Bytes that are no UTF-8 become surrogates."""
        data = self.take(length, what)
        padding = -length % 4
        self._at += min(padding, self.left)
        return bytes(data).decode(errors="surrogateescape")

    def end(self) -> None:
        """Raise unless everything was read."""
        if self.left:
            raise self.fail(f"{self.left} bytes too many")


def padded(data: bytes) -> bytes:
    """Bytes with zeros to a multiple of 4."""
    return data + bytes(-len(data) % 4)


def text_bytes(text: str) -> bytes:
    """The bytes of a text as :meth:`Cursor.text` reads it."""
    return text.encode(errors="surrogateescape")


def words(*values: int) -> bytes:
    """u32 little-endian."""
    return struct.pack(f"<{len(values)}I", *values)
