"""Streams that are cut, mixed up or made up: every fault is a sentence with an offset, and nothing else."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neutronflow.domain.adara.events import Demultiplexer, last_pulse, scan
from neutronflow.domain.adara.packets import AnyPacket, Unknown, decode
from neutronflow.domain.adara.wire import BadPacket, Packet, PacketReader, PacketType, TruncatedStream, encode_packet

RECORDED = Path(__file__).parents[2] / "data" / "adara" / "small_sms_run1001.adara"
STREAM = RECORDED.read_bytes()[:120_000]


def read(data: bytes) -> list[AnyPacket]:
    return [decode(packet) for packet in PacketReader().feed(data)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=30))
def test_a_stream_cut_anywhere_gives_the_same_packets(sizes: list[int]) -> None:
    whole = [(p.base, p.offset, bytes(p.payload)) for p in PacketReader().feed(STREAM)]
    reader, pieces, at = PacketReader(), [], 0
    for size in [*sizes, len(STREAM)]:
        pieces += [(p.base, p.offset, bytes(p.payload)) for p in reader.feed(STREAM[at : at + size])]
        at += size
    assert pieces == whole


def test_a_truncated_stream_is_refused_with_its_offset() -> None:
    reader = PacketReader()
    list(reader.feed(STREAM[:50]))
    with pytest.raises(TruncatedStream, match=r"ended at byte offset 50, 10 bytes before the end .* begins at 44"):
        reader.finish()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ((5, 0x00400900, 0, 0), "no multiple of 4"),
        ((0x04000000, 0x00400900, 0, 0), "longer than"),
        ((0, 0x00400900, 0, 1_000_000_000), "nanoseconds"),
        ((0xEFBEADDE, 0xEFBEADDE, 0xEFBEADDE, 0xEFBEADDE), "byte offset 44"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_offset(header: tuple[int, ...], why: str) -> None:
    data = STREAM[:44] + struct.pack("<4I", *header) + bytes(64)
    with pytest.raises(BadPacket, match=why):
        list(PacketReader().feed(data))
    with pytest.raises(BadPacket, match=why):
        scan(np.frombuffer(data, np.uint32), 0)


@pytest.mark.parametrize(
    ("base", "payload", "why"),
    [
        (PacketType.BANKED_EVENT, struct.pack("<4I 4I 2I", 1, 1, 1, 1, 1, 1, 1, 1, 1, 99), "goes beyond"),
        (PacketType.BANKED_EVENT, struct.pack("<4I 4I", 1, 1, 1, 1, 1, 1, 1, 0xFFFFFFFF), "cannot stand in"),
        (PacketType.BANKED_EVENT, b"1234", "goes beyond"),
        (PacketType.BEAM_MONITOR_EVENT, struct.pack("<7I", 1, 1, 1, 1, 0x3FFFFF, 1, 1), "goes beyond"),
        (PacketType.RTDL, bytes(120), "ring period"),
        (PacketType.RUN_STATUS, struct.pack("<5I", 1, 1, 0x77000000, 0, 0), "no run status 119"),
        (PacketType.RUN_INFO, struct.pack("<I", 1000), "goes beyond"),
        (PacketType.SYNC, bytes(28), "signature"),
        (PacketType.STREAM_ANNOTATION, struct.pack("<2I", 99 << 16, 0), "no marker type 99"),
        (PacketType.VARIABLE_U32, struct.pack("<4I", 1, 1, 0x00630000, 1), "no status 99"),
        (PacketType.VARIABLE_DOUBLE_ARRAY, struct.pack("<4I", 1, 1, 0, 0xFFFFFFF), "goes beyond"),
        (PacketType.BEAM_MONITOR_CONFIG, struct.pack("<I", 0xFFFFFFFF), "cannot stand in"),
        (PacketType.DETECTOR_BANK_SETS, struct.pack("<I", 0xFFFFFFFF), "cannot stand in"),
        (PacketType.MULTI_VARIABLE_U32, struct.pack("<4I", 1, 1, 0, 0xFFFFFFFF), "cannot stand in"),
        (PacketType.RAW_EVENT, bytes(28), "no whole number"),
    ],
)
def test_a_payload_that_contradicts_itself_is_refused(base: int, payload: bytes, why: str) -> None:
    data = encode_packet(base, 1 if base < 0x8000 else 0, 1, 1, payload)
    with pytest.raises(BadPacket, match=why) as refused:
        read(data)
    assert PacketType(base).name in str(refused.value)


def test_a_packet_of_an_unknown_type_is_kept_as_it_is() -> None:
    assert read(encode_packet(0x7777, 3, 1, 1, b"12345678")) == [Unknown(0x7777, 3, b"12345678")]


def test_a_newer_version_with_more_bytes_is_read_as_the_newest_known() -> None:
    payload = struct.pack("<7I", 7, 1, 0x01000000, 0, 0, 123, 456)
    (status,) = read(encode_packet(PacketType.RUN_STATUS, 9, 1, 1, payload))
    assert getattr(status, "run_number", None) == 7


def demultiplex(data: bytes) -> int:
    words = np.frombuffer(data[: len(data) // 4 * 4], np.uint32)
    found = scan(words, 0)
    last_pulse(words, found)
    block = Demultiplexer(range(1, 21)).block(words, found, 0)
    return len(block.pixel)


def test_mutated_streams_raise_nothing_but_the_documented_error() -> None:
    """Seeded: 400 streams with some words changed, through the packet reader and through the compiled walk."""
    rng = random.Random(20261125)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        data = bytearray(STREAM)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(0, len(data) - 4, 4)
            data[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 4, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)]))
        for attempt in (read, demultiplex):
            try:
                attempt(bytes(data))
            except BadPacket:
                outcomes["refused"] += 1
            else:
                outcomes["read"] += 1
    assert min(outcomes.values()) > 50


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([int(t) for t in PacketType]), st.integers(0, 3))
def test_any_payload_is_read_or_refused(payload: bytes, base: int, version: int) -> None:
    data = payload[: len(payload) // 4 * 4]
    with contextlib.suppress(BadPacket):
        decode(Packet(base, version, 1, 1, memoryview(data), 0))
