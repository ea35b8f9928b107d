from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.domain.adara.packets import RunInfo, RunStatus, RunStatusCode, encode
from neutronflow.domain.adara.wire import BadPacket, PacketType, TruncatedStream, encode_packet
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.instrument.translation import assembler as module
from neutronflow.instrument.translation.assembler import Assembler, IncompleteStream, Translated, UnusableStream
from tests.support.runs import START_S, as_bytes, end, prologue, pulse, pulse_time, run
from tests.support.streams import RECORDED, packets

ONE = [(1000, 5)]


def translate(data: bytes, path: Path) -> Translated:
    assembler = Assembler(path)
    try:
        assembler.feed(data)
        return assembler.finish()
    finally:
        assembler.abandon()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nxs.h5"


def test_a_bank_without_events_in_a_pulse_repeats_its_count(path: Path) -> None:
    translate(run(pulse(0, {1: ONE * 2}), pulse(1, {2: ONE}), pulse(2, {1: ONE}), pulse(3, {})), path)
    with h5py.File(path) as file:
        assert file["entry/bank1_events/event_index"][()].tolist() == [0, 2, 2, 3]
        assert file["entry/bank2_events/event_index"][()].tolist() == [0, 0, 1, 1]
        assert file["entry/bank3_events/event_index"][()].tolist() == [0, 0, 0, 0]


def test_a_bank_that_comes_twice_in_a_pulse_has_one_index_entry_for_it(path: Path) -> None:
    banked = next(p for p in packets(pulse(0, {1: [(10, 1)]})) if p.base == PacketType.BANKED_EVENT)
    # The same source section twice: payload without the four leading words, appended.
    payload = bytes(banked.payload) + bytes(banked.payload)[16:]
    twice = encode_packet(banked.base, banked.version, banked.seconds, banked.nanoseconds, payload)
    translate(run(twice, pulse(1, {1: ONE})), path)
    with h5py.File(path) as file:
        assert file["entry/bank1_events/event_index"][()].tolist() == [0, 2]


def test_a_beam_monitor_that_comes_late_counts_from_the_first_pulse(path: Path) -> None:
    translate(run(pulse(0, {}), pulse(1, {}), pulse(2, {}, {7: [100, 200]}), pulse(3, {}, {7: [300]})), path)
    with h5py.File(path) as file:
        assert file["entry/monitor7/event_index"][()].tolist() == [0, 0, 0, 2]
        assert file["entry/monitor7/event_time_offset"][()].tolist() == [10.0, 20.0, 30.0]


def test_pulses_marked_as_duplicates_are_left_out_and_named(path: Path) -> None:
    done = translate(run(pulse(0, {1: ONE}), pulse(0, {1: ONE}, flags=0x20), pulse(1, {1: ONE})), path)
    assert (done.pulses, done.events) == (2, 2)
    assert done.problems == {"duplicate pulses, left out": 2}


def test_a_pulse_with_an_earlier_time_is_kept_at_time_zero(path: Path) -> None:
    done = translate(run(pulse(5, {1: ONE}), pulse(2, {1: ONE}), pulse(6, {1: ONE})), path)
    assert done.pulses == 3
    with h5py.File(path) as file:
        assert file["entry/DASlogs/frequency/time"][()].tolist() == [0.0, 0.0, 0.016666667]


def test_events_of_banks_that_no_map_defines_are_counted(path: Path) -> None:
    done = translate(run(pulse(0, {1: ONE, 999: ONE * 3})), path)
    assert done.events == 1
    assert done.problems == {"events of a bank that no pixel map defines": 3}
    with h5py.File(path) as file:
        assert file["entry/total_uncounted_counts"][0] == 3


def test_a_run_without_pulses_is_a_file_without_events(path: Path) -> None:
    done = translate(run(), path)
    assert (done.pulses, done.events) == (0, 0)
    with h5py.File(path) as file:
        assert file["entry/bank1_events/event_id"].shape == (0,)
        assert file["entry/total_pulses"][0] == 0


def test_a_pulse_larger_than_the_buffer_comes_out_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 4096)
    events = [(number, number % 1024) for number in range(5000)]
    translate(run(pulse(0, {1: ONE}), pulse(1, {1: events, 2: events}), pulse(2, {2: ONE})), path)
    with h5py.File(path) as file:
        assert file["entry/bank1_events/event_id"][1:].tolist() == [pixel for _, pixel in events]
        assert file["entry/bank2_events/event_index"][()].tolist() == [0, 0, 5000]


def test_many_chunks_of_events_come_out_in_order(path: Path) -> None:
    chance = np.random.default_rng(1)
    columns = [chance.integers(0, 100_000, (20_000, 2)).astype(np.uint32) for _ in range(12)]
    translate(run(*(pulse(n, {1: events, 2: ONE}) for n, events in enumerate(columns))), path)  # type: ignore[dict-item]
    everything = np.concatenate(columns)
    with h5py.File(path) as file:
        bank = file["entry/bank1_events"]
        assert np.array_equal(bank["event_id"][()], everything[:, 1])
        assert np.array_equal(bank["event_time_offset"][()], (everything[:, 0] / 10.0).astype(np.float32))
        assert bank["event_id"].chunks == (49152,)
        assert file["entry/bank2_events/event_id"].chunks == (12,)


def test_a_file_boundary_may_repeat_the_whole_prologue(path: Path) -> None:
    """But for the status of the run, which says there that it goes on."""
    again = encode(RunStatus(1001, START_S, RunStatusCode.RUN_BOF, 0x001002), *pulse_time(1))
    repeated = prologue().replace(packets(prologue())[1].payload.tobytes(), packets(again)[0].payload.tobytes())
    assert repeated != prologue()
    once, twice = path.with_name("once.nxs.h5"), path
    translate(run(pulse(0, {1: ONE}), pulse(1, {1: ONE})), once)
    translate(run(pulse(0, {1: ONE}), repeated, pulse(1, {1: ONE})), twice)
    with h5py.File(once) as first, h5py.File(twice) as second:
        logs: list[str] = []
        first["entry/DASlogs"].visit(logs.append)
        for name in logs:
            if isinstance(first["entry/DASlogs"][name], h5py.Dataset):
                assert np.array_equal(first["entry/DASlogs"][name][()], second["entry/DASlogs"][name][()]), name


def test_of_several_descriptions_of_the_run_the_last_holds(path: Path) -> None:
    info = next(p for p in packets(prologue()) if p.base == PacketType.RUN_INFO)
    later = RunInfo(bytes(info.payload[4:]).decode().rstrip("\0").replace("IPTS-12345", "IPTS-54321"))
    done = translate(run(pulse(0, {1: ONE}), encode(later, *pulse_time(1)), pulse(1, {1: ONE})), path)
    assert done.experiment == "IPTS-54321"
    with h5py.File(path) as file:
        assert file["entry/experiment_identifier"][0] == b"IPTS-54321"


def test_a_stream_cut_inside_a_packet_is_refused_with_its_offset(path: Path) -> None:
    data = run(pulse(0, {1: ONE}))
    with pytest.raises(TruncatedStream, match=rf"ended at byte offset {len(data) - 30}"):
        translate(data[:-30], path)


def test_a_stream_without_the_end_of_its_run_is_refused(path: Path) -> None:
    data = prologue() + pulse(0, {1: ONE})
    with pytest.raises(IncompleteStream, match=f"offset {len(data)} without the end"):
        translate(data, path)


@pytest.mark.parametrize("at", [0, 1])
def test_garbage_is_refused_with_its_offset(path: Path, at: int) -> None:
    before = prologue() if at else b""
    with pytest.raises(BadPacket, match=f"offset {len(before)}:"):
        translate(before + b"\xff" * 64, path)


def test_a_count_that_goes_beyond_its_packet_is_refused_with_its_offset(path: Path) -> None:
    good = pulse(0, {1: ONE})
    banked = packets(good)[1]
    payload = bytearray(banked.payload)
    payload[36:40] = (10**6).to_bytes(4, "little")
    bad = encode_packet(banked.base, banked.version, banked.seconds, banked.nanoseconds, payload)
    offset = len(prologue()) + banked.offset
    with pytest.raises(BadPacket, match=f"offset {offset}: a section goes beyond the payload"):
        translate(prologue() + good[: banked.offset] + bad + end(), path)


def test_another_run_inside_of_a_run_is_refused(path: Path) -> None:
    other = encode(RunStatus(1002, START_S, RunStatusCode.NEW_RUN, 0x001001), *pulse_time(1))
    with pytest.raises(BadPacket, match="run 1002 begins inside of run 1001"):
        translate(run(pulse(0, {}), other), path)


def test_a_stream_that_does_not_say_whose_run_it_is_is_refused(path: Path) -> None:
    started = encode(RunStatus(1001, START_S, RunStatusCode.NEW_RUN, 0x001001), *pulse_time(0))
    with pytest.raises(UnusableStream, match="which instrument and experiment"):
        translate(started + pulse(0, {1: ONE}) + end(), path)
    with pytest.raises(UnusableStream, match="before the run began"):
        translate(pulse(0, {1: ONE}) + end(), path)
    with pytest.raises(IncompleteStream):
        translate(b"", path)


def test_events_sorted_by_neutron_state_are_kept_in_their_bank(path: Path) -> None:
    banked = packets(pulse(0, {}))[1]
    words = [1_800_000, 937_987_556, 0, 0, 1, 166_667, 0, 1, 1, 2, 1, 1000, 5]  # bank 1, state 2, one event
    payload = b"".join(word.to_bytes(4, "little") for word in words)
    state = encode_packet(PacketType.BANKED_EVENT_STATE, 0, banked.seconds, banked.nanoseconds, payload)
    done = translate(run(state, pulse(1, {1: ONE})), path)
    assert done.events == 2
    assert list(done.problems) == ["pulses sorted by neutron state: their events are kept by bank alone"]


def test_what_came_of_a_broken_run_can_be_salvaged(path: Path) -> None:
    assembler = Assembler(path)
    assembler.feed(prologue() + pulse(0, {1: ONE}) + pulse(1, {1: ONE}) + b"\0" * 7)
    with pytest.raises(TruncatedStream):
        assembler.finish()
    assembler.salvage("it broke off")
    assembler.salvage("twice does no harm")
    with h5py.File(path) as file:
        assert file["entry/bank1_events/event_id"][()].tolist() == [5, 5]
        assert file["entry/DASlogs/comments/value"][-1, 0].rstrip() == b"Stream processing terminated abnormally."
        assert b"it broke off" in file["entry/Software/Translation/note"][0]


def test_mutated_streams_end_in_a_file_or_in_a_sentence(path: Path) -> None:
    first = packets(RECORDED.read_bytes())[:200]
    recorded = b"".join(map(as_bytes, first)) + end()
    chance = random.Random(3)
    refusals: list[str] = []
    for _ in range(40):
        data = bytearray(recorded)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            translate(bytes(data), path)
        except NeutronflowError as error:
            refusals.append(str(error))
    assert 0 < len(refusals) < 40
    assert all(refusals)


def test_banked_packets_of_version_0_are_read(path: Path) -> None:
    first = packets(pulse(0, {1: ONE}))[1]
    old = encode_packet(first.base, 0, first.seconds, first.nanoseconds, first.payload)
    assert translate(run(old), path).events == 1
