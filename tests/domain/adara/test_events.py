"""The compiled demultiplexing against the packet reader, and against the file of the C++ translator."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.domain.adara.eventpackets import DUPLICATE_PULSE
from neutronflow.domain.adara.events import Demultiplexer, EventBlock, last_pulse, scan
from neutronflow.domain.adara.packets import Bank, BankedEvents, PulseHeader, SourceSection, decode, encode
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
