"""Values of variables in columns, against the packet reader."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neutronflow.domain.adara.events import scan
from neutronflow.domain.adara.packets import VariableValue, decode
from neutronflow.domain.adara.scalars import Scalars, scalars
from neutronflow.domain.adara.wire import BadPacket, PacketReader, PacketType, encode_packet

DATA = Path(__file__).parents[2] / "data" / "adara"


def read(data: bytes, offset: int = 0) -> Scalars:
    words = np.frombuffer(data, np.uint32)
    return scalars(words, scan(words, offset), offset)


def u32(device: int, variable: int, value: int, seconds: int = 1, state: int = 0) -> bytes:
    return encode_packet(PacketType.VARIABLE_U32, 0, seconds, 5, struct.pack("<4I", device, variable, state, value))


def double(device: int, variable: int, value: float, seconds: int = 1) -> bytes:
    return encode_packet(PacketType.VARIABLE_DOUBLE, 0, seconds, 5, struct.pack("<3Id", device, variable, 0, value))


@pytest.mark.parametrize("name", ["small_sms_run1001", "histo_sms", "raw_pvsd"])
def test_recorded_values_are_those_that_the_packet_reader_finds(name: str) -> None:
    data = (DATA / f"{name}.adara").read_bytes()
    expected = []
    for packet in PacketReader().feed(data):
        if isinstance(one := decode(packet), VariableValue) and one.kind in ("u32", "double"):
            state = (one.status << 16) | one.severity
            expected.append((packet.time_ns, one.device_id, one.variable_id, state, one.kind == "double", one.value))
    found = read(data)
    columns = (found.time_ns, found.device_id, found.variable_id, found.alarm, found.is_double, found.value)
    assert expected
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_values_are_given_variable_by_variable_in_the_order_in_which_they_came() -> None:
    data = u32(2, 1, 10) + double(1, 1, 0.5) + u32(2, 1, 0xFFFFFFFF, seconds=0) + u32(1, 0xFFFFFFFF, 7) + u32(1, 1, 3)
    groups = [
        (int(one.device_id[0]), int(one.variable_id[0]), bool(one.is_double[0]), one.value.tolist())
        for one in read(data).by_variable()
    ]
    assert groups == [
        (1, 1, False, [3.0]),
        (1, 1, True, [0.5]),
        (1, 0xFFFFFFFF, False, [7.0]),
        (2, 1, False, [10.0, 4294967295.0]),
    ]


def test_a_stream_without_values_gives_none() -> None:
    found = read(encode_packet(PacketType.HEARTBEAT, 0, 1, 1, b""))
    assert len(found) == 0
    assert list(found.by_variable()) == []


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (encode_packet(PacketType.VARIABLE_U32, 0, 1, 1, bytes(12)), r"offset 132.*VARIABLE_U32.*goes beyond"),
        (encode_packet(PacketType.VARIABLE_DOUBLE, 0, 1, 1, bytes(16)), r"offset 132.*VARIABLE_DOUBLE.*goes beyond"),
        (u32(1, 1, 1, state=99 << 16), "offset 132.*no status 99"),
        (u32(1, 1, 1, state=4), "offset 132.*severity 4"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_offset(packet: bytes, why: str) -> None:
    with pytest.raises(BadPacket, match=why):
        read(u32(1, 1, 1) + packet, offset=100)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([PacketType.VARIABLE_U32, PacketType.VARIABLE_DOUBLE]))
def test_any_payload_is_refused_or_read_as_by_the_packet_reader(payload: bytes, base: PacketType) -> None:
    data = encode_packet(base, 0, 1, 1, payload[: len(payload) // 4 * 4])
    (packet,) = PacketReader().feed(data)
    try:
        expected, said = decode(packet), ""
    except BadPacket as refused:
        expected, said = None, str(refused)
    if said:
        with pytest.raises(BadPacket) as ours:
            read(data)
        assert str(ours.value) == said
    else:
        assert isinstance(expected, VariableValue)
        assert np.array_equal(read(data).value, [float(expected.value)], equal_nan=True)
