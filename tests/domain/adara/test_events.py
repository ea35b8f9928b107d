"""The compiled demultiplexing against the packet reader, and against the file of the C++ translator."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neutronflow.domain.adara.eventpackets import DUPLICATE_PULSE
from neutronflow.domain.adara.events import Demultiplexer, EventBlock, last_pulse, scan
from neutronflow.domain.adara.packets import (
    Bank,
    BankedEvents,
    MonitorEvents,
    PulseHeader,
    SourceSection,
    decode,
    encode,
)
from neutronflow.domain.adara.wire import PacketReader

DATA = Path(__file__).parents[2] / "data" / "adara"


def demultiplex(data: bytes, banks: range = range(1, 21)) -> tuple[Demultiplexer, EventBlock]:
    words = np.frombuffer(data, np.uint32)
    sorter = Demultiplexer(banks)
    return sorter, sorter.block(words, scan(words, 0), 0)


def pulse(seconds: int, banks: dict[int, list[tuple[int, int]]], flags: int = 0) -> bytes:
    """A banked event packet: bank -> (tof, pixel)."""
    columns = [
        Bank(bank, np.array([t for t, _ in events], "<u4"), np.array([p for _, p in events], "<u4"))
        for bank, events in banks.items()
    ]
    section = SourceSection(1, 0, False, 0, tuple(columns))
    return encode(BankedEvents(PulseHeader(100, 0, 0, 0, flags), (section,)), seconds, 0)


def test_all_events_and_indexes_are_those_of_the_cpp_translator() -> None:
    sorter, block = demultiplex((DATA / "small_sms_run1001.adara").read_bytes())
    with h5py.File(DATA / "small_run1001.nxs.h5") as file:
        for slot, bank in enumerate(sorter.bank_ids[2:], 2):
            group = file[f"entry/bank{bank}_events"]
            events = slice(block.starts[slot], block.starts[slot + 1])
            assert np.array_equal(group["event_id"][:], block.pixel[events])
            assert np.array_equal(group["event_time_offset"][:], block.tof_us[events])
            assert np.array_equal(group["event_index"][:], block.index[slot])
        for slot, monitor in enumerate(block.monitor_ids):
            group = file[f"entry/monitor{monitor}"]
            events = slice(block.monitor_starts[slot], block.monitor_starts[slot + 1])
            assert np.array_equal(group["event_time_offset"][:], block.monitor_tof_us[events])
            assert np.array_equal(group["event_index"][:], block.monitor_index[slot])


def test_a_stream_of_many_kinds_has_as_many_events_as_the_packet_reader_finds() -> None:
    data = (DATA / "histo_sms.adara").read_bytes()
    structs = [decode(packet) for packet in PacketReader().feed(data)]
    counted: dict[int, int] = {}
    for struct in structs:
        if isinstance(struct, BankedEvents) and not struct.pulse.flags & DUPLICATE_PULSE:
            for bank in (bank for source in struct.sources for bank in source.banks):
                counted[bank.bank_id] = counted.get(bank.bank_id, 0) + len(bank.tof)
    sorter, block = demultiplex(data, range(0, 200))
    found = dict(zip(sorter.bank_ids, np.diff(block.starts).tolist(), strict=True))
    assert {bank: count for bank, count in found.items() if count} == {b: c for b, c in counted.items() if c}


def test_an_index_counts_from_the_beginning_of_the_run_over_several_blocks() -> None:
    sorter = Demultiplexer([7])
    indexes = []
    for second in (1, 2):
        words = np.frombuffer(pulse(second, {7: [(10, 1), (20, 2)]}), np.uint32)
        indexes.append(sorter.block(words, scan(words, 0), 0).index[2].tolist())
    assert indexes == [[0], [2]]
    assert sorter.totals.tolist() == [0, 0, 4]


def test_events_of_a_bank_that_is_not_registered_are_counted() -> None:
    _, block = demultiplex(pulse(1, {7: [(10, 1)], 99: [(10, 1), (20, 2)], 0x12345: [(1, 1)]}), range(7, 8))
    assert (len(block.pixel), block.undefined) == (1, 3)


def test_unmapped_and_error_events_have_banks_of_their_own() -> None:
    _, block = demultiplex(pulse(1, {0xFFFFFFFF: [(10, 1)], 0xFFFFFFFE: [(20, 2), (30, 3)]}))
    assert np.diff(block.starts)[:2].tolist() == [1, 2]


def test_duplicate_pulses_are_left_out() -> None:
    data = pulse(1, {7: [(10, 1)]}) + pulse(1, {7: [(10, 1)]}, DUPLICATE_PULSE) + pulse(2, {7: [(10, 1)]})
    _, block = demultiplex(data)
    assert (len(block.pulse_id), len(block.pixel), block.duplicates) == (2, 2, 1)


def test_the_last_pulse_is_found_where_its_first_packet_begins() -> None:
    words = np.frombuffer(pulse(1, {7: [(10, 1)]}) + pulse(2, {}) + pulse(2, {}), np.uint32)
    found = scan(words, 0)
    assert last_pulse(words, found) == 1
    assert last_pulse(words[:0], scan(words[:0], 0)) == -1


@pytest.mark.parametrize("tof", [0, 1, 9, 333_333, 0xFFFFFFFF])
def test_tof_is_in_microseconds_as_the_nearest_float(tof: int) -> None:
    _, block = demultiplex(pulse(1, {7: [(tof, 1)]}))
    assert block.tof_us[0] == np.float32(tof / 10.0)


def by_bank(data: bytes) -> tuple[dict[int, tuple[list[float], list[int]]], list[tuple[int, int, int, int, int]]]:
    """Events of each bank, and charge, energy, cycle, flags and veto of each pulse, as the packet reader finds them."""
    events: dict[int, tuple[list[float], list[int]]] = {}
    pulses = []
    for packet in PacketReader().feed(data):
        struct = decode(packet)
        assert isinstance(struct, BankedEvents)
        head = struct.pulse
        pulses.append((head.charge_10pc, head.energy_ev, head.cycle, head.flags, head.veto or 0))
        for bank in (bank for source in struct.sources for bank in source.banks):
            tof, pixel = events.setdefault(bank.bank_id, ([], []))
            tof += (bank.tof / 10.0).astype(np.float32).tolist()
            pixel += bank.pixel.tolist()
    return events, pulses


WORDS = st.integers(0, 0xFFFFFFFF)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40)), max_size=6)), max_size=20),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_pulses_of_any_sizes_are_sorted_as_the_packet_reader_finds_them(
    pulses: list[tuple[int, list[tuple[int, int]]]], with_state: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for number, (word, banks) in enumerate(pulses):
        columns = []
        for bank, count in banks:
            tof, pixel = rng.integers(0, 2**32, (2, count), np.uint32)
            columns.append(Bank(bank, tof, pixel, 1 if with_state else None))
        flags = word & 0xFFFFF & ~DUPLICATE_PULSE
        head = PulseHeader(word, word // 2, word // 3, None if word % 2 and not with_state else word >> 20, flags)
        parts.append(
            encode(BankedEvents(head, (SourceSection(1, 0, False, 0, tuple(columns)),), with_state), number, 0)
        )
    data = b"".join(parts)
    events, heads = by_bank(data)
    sorter, block = demultiplex(data, range(1, 6))
    for slot, bank in enumerate(sorter.bank_ids):
        where = slice(block.starts[slot], block.starts[slot + 1])
        assert (block.tof_us[where].tolist(), block.pixel[where].tolist()) == events.get(bank, ([], []))
        assert block.index[slot].tolist() == [
            sum(count for _, banks in pulses[:pulse] for number, count in banks if number == bank)
            for pulse in range(len(pulses))
        ]
    table = (block.charge_10pc, block.energy_ev, block.cycle, block.flags, block.veto)
    assert list(zip(*(column.tolist() for column in table), strict=True)) == heads


def test_a_pulse_with_beam_monitors_alone_is_described_by_them() -> None:
    monitors = MonitorEvents(PulseHeader(7, 8, 9, 5, 0x304), ())
    _, block = demultiplex(encode(monitors, 3, 4) + pulse(5, {1: [(1, 1)]}))
    assert block.pulse_id.tolist() == [(3 << 32) | 4, 5 << 32]
    assert [block.charge_10pc[0], block.energy_ev[0], block.cycle[0], block.flags[0], block.veto[0]] == [
        7,
        8,
        9,
        0x304,
        5,
    ]


@pytest.mark.parametrize("banked_first", [True, False])
def test_banked_events_say_what_a_pulse_is_whichever_packet_comes_first(banked_first: bool) -> None:
    parts = [pulse(1, {1: [(1, 1)]}, flags=0x300), encode(MonitorEvents(PulseHeader(7, 0, 0, 0, 4), ()), 1, 0)]
    _, block = demultiplex(b"".join(parts if banked_first else parts[::-1]))
    assert (block.charge_10pc.tolist(), block.flags.tolist()) == ([100], [0x300])
