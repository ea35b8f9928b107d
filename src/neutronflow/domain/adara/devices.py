"""Slow controls: device descriptors and values of process variables."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from neutronflow.domain.adara.fields import Cursor, padded, text_bytes, words
from neutronflow.domain.adara.wire import Packet, PacketType

#: int and float scalars, text, or an array of shape (n,): u32 or f64.
Value: TypeAlias = "int | float | str | np.ndarray[tuple[int], np.dtype[np.generic]]"

STATUS_NOT_REPORTED = 0xFFFF
STATUS_UPSTREAM_DISCONNECTED = 0xFFFE
#: What the reference takes as alarm status and severity; anything else makes a packet invalid.
STATUS_CODES = frozenset([*range(22), STATUS_UPSTREAM_DISCONNECTED, STATUS_NOT_REPORTED])
SEVERITY_CODES = frozenset([0, 1, 2, 3, 0xFFFF])
#: Packet types by what they carry, single and multiple.
_KINDS = {1: "u32", 2: "double", 3: "string", 4: "u32 array", 5: "double array"}
_MULTIPLE = 0x100


@dataclass(frozen=True, slots=True)
class DeviceDescriptor:
    """DEVICE_DESCRIPTOR: the XML that defines a device's variables; empty where the device is undefined."""

    device_id: int
    xml: str

    @classmethod
    def read(cls, packet: Packet) -> DeviceDescriptor:
        """Decode; the XML is parsed only where it is asked."""
        cursor = Cursor(packet)
        device, length = cursor.words(2, "the device")
        return cls(device, cursor.text(length, "the descriptor"))

    def to_bytes(self) -> bytes:
        """The payload."""
        data = text_bytes(self.xml)
        return words(self.device_id, len(data)) + padded(data)


@dataclass(frozen=True, slots=True)
class VariableValue:
    """One value of a process variable; ``kind`` is u32, double, string, u32 array or double array."""

    device_id: int
    variable_id: int
    status: int
    severity: int
    kind: str
    value: Value

    @classmethod
    def read(cls, packet: Packet) -> VariableValue:
        """Decode."""
        cursor = Cursor(packet)
        device, variable, status, severity = _read_head(cursor)
        kind = _KINDS[packet.base & 0xFF]
        return cls(device, variable, status, severity, kind, _read_value(cursor, kind))

    @property
    def base(self) -> int:
        """The packet type in which this is written."""
        return PacketType.VARIABLE_U32 - 1 + next(n for n, kind in _KINDS.items() if kind == self.kind)

    def to_bytes(self) -> bytes:
        """The payload."""
        head = words(self.device_id, self.variable_id, (self.status << 16) | self.severity)
        return head + _value_bytes(self.kind, self.value)


@dataclass(frozen=True, slots=True)
class MultiVariableValue:
    """Several values of one process variable; each at the packet's time plus its offset in ns."""

    device_id: int
    variable_id: int
    status: int
    severity: int
    kind: str
    values: tuple[tuple[int, Value], ...]

    @classmethod
    def read(cls, packet: Packet) -> MultiVariableValue:
        """Decode."""
        cursor = Cursor(packet)
        device, variable, status, severity = _read_head(cursor)
        kind = _KINDS[packet.base & 0xFF]
        count = cursor.word("the number of values")
        if count * 8 > cursor.left:
            raise cursor.fail(f"{count} values cannot stand in {cursor.left} bytes")
        values = tuple((cursor.word("an offset"), _read_value(cursor, kind)) for _ in range(count))
        return cls(device, variable, status, severity, kind, values)

    @property
    def base(self) -> int:
        """The packet type in which this is written."""
        return PacketType.MULTI_VARIABLE_U32 - 1 + next(n for n, kind in _KINDS.items() if kind == self.kind)

    def to_bytes(self) -> bytes:
        """The payload."""
        head = words(self.device_id, self.variable_id, (self.status << 16) | self.severity, len(self.values))
        return head + b"".join(words(offset) + _value_bytes(self.kind, value) for offset, value in self.values)


def _read_head(cursor: Cursor) -> tuple[int, int, int, int]:
    device, variable, state = cursor.words(3, "the variable")
    status, severity = state >> 16, state & 0xFFFF
    if status not in STATUS_CODES or severity not in SEVERITY_CODES:
        raise cursor.fail(f"there is no status {status} with severity {severity}")
    return device, variable, status, severity


def _read_value(cursor: Cursor, kind: str) -> Value:
    if kind == "u32":
        return cursor.word("the value")
    if kind == "double":
        return cursor.double("the value")
    count = cursor.word("the length")
    if kind == "string":
        return cursor.text(count, "the text")
    return cursor.array(count, "the array", "<u4" if kind == "u32 array" else "<f8")


def _value_bytes(kind: str, value: Value) -> bytes:
    if kind == "u32":
        return words(int(value))
    if kind == "double":
        return struct.pack("<d", value)
    if kind == "string":
        data = text_bytes(str(value))
        return words(len(data)) + padded(data)
    array = np.asarray(value, dtype="<u4" if kind == "u32 array" else "<f8")
    return words(len(array)) + array.tobytes()
