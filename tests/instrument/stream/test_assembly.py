"""Pulses from what the real detector source sends, and what the real service made of such pulses."""

from __future__ import annotations

import numpy as np

from neutronflow.domain.adara.eventpackets import (
    BANK_ERROR,
    BANK_UNMAPPED,
    CHARGE_UNCORRECTED,
    MISSING_RTDL,
    PARTIAL_DATA,
    BankedEvents,
    MonitorEvents,
    RawEvents,
    Rtdl,
)
from neutronflow.domain.adara.packets import (
    BeamlineInfo,
    BeamMonitorConfig,
    PixelMapping,
    VariableValue,
    decode,
    encode,
)
from neutronflow.domain.adara.wire import Packet, PacketReader
from neutronflow.instrument.stream.assembly import PulseAssembler, ring_energy_ev
from neutronflow.instrument.stream.choppers import Choppers
from neutronflow.instrument.stream.pixels import PixelMap, map_of
from neutronflow.instrument.stream.state import StreamState
from tests.support.sources import DATA
from tests.support.streams import packets


def recorded_map() -> PixelMap:
    for packet in packets((DATA / "small_sms_run1001.adara").read_bytes()):
        content = decode(packet)
        if isinstance(content, PixelMapping):
            return map_of(content)
    raise AssertionError("no pixel map")


def assembler(wait_s: float = 1000.0) -> PulseAssembler:
    pixel_map = recorded_map()
    beamline = BeamlineInfo("BL14B", "HYS", "HYSPEC")
    state = StreamState(beamline, "<instrument/>", pixel_map.packet, BeamMonitorConfig(()))
    return PulseAssembler(pixel_map, Choppers(state), wait_s=wait_s, max_pulses=1000)


def feed(one: PulseAssembler, data: bytes) -> list[object]:
    out = b""
    for packet in PacketReader().feed(data):
        content = decode(packet)
        assert isinstance(content, RawEvents | Rtdl)
        one.take("source", packet, content)
        out += b"".join(one.finished())
    out += b"".join(one.finished(everything=True))
    return [decode(packet) for packet in packets(out)]


def raw_pulses() -> list[tuple[Packet, RawEvents]]:
    found = []
    for packet in packets((DATA / "raw_gen.adara").read_bytes()):
        content = decode(packet)
        if isinstance(content, RawEvents):
            found.append((packet, content))
    return found


def test_pulses_are_written_as_the_real_service_writes_them() -> None:
    made = feed(assembler(), (DATA / "raw_gen.adara").read_bytes())
    kinds = [type(one).__name__ for one in made]
    # The chopper's device is described when its first edge comes.
    assert kinds[:5] == ["Rtdl", "MonitorEvents", "BankedEvents", "DeviceDescriptor", "VariableValue"]
    assert kinds[5:9] == ["Rtdl", "MonitorEvents", "BankedEvents", "VariableValue"]
    recorded = [decode(packet) for packet in packets((DATA / "small_sms_run1001.adara").read_bytes())]
    theirs = [one for one in recorded if isinstance(one, BankedEvents)]
    ours = [one for one in made if isinstance(one, BankedEvents)]
    # Cycles differ, all else of a pulse is the same; the recording of the source ends within a pulse.
    heads = [
        {(p.pulse.charge_10pc, p.pulse.energy_ev, p.pulse.veto, p.pulse.flags) for p in one}
        for one in (ours[:-1], theirs)
    ]
    assert heads[0]
    assert heads[0] <= heads[1]
    assert [bank.bank_id for bank in ours[0].sources[0].banks] == [bank.bank_id for bank in theirs[0].sources[0].banks]
    one, other = ours[0].sources[0], theirs[0].sources[0]
    assert (one.source_id, one.corrected, one.tof_offset_100ns) == (
        other.source_id,
        other.corrected,
        other.tof_offset_100ns,
    )
    monitors = [one for one in made if isinstance(one, MonitorEvents)]
    their_monitors = next(one for one in recorded if isinstance(one, MonitorEvents))
    assert [m.monitor_id for m in monitors[0].monitors] == [m.monitor_id for m in their_monitors.monitors]
    assert (monitors[0].monitors[0].events >> 21 == their_monitors.monitors[0].events[0] >> 21).all()
    edges = {(one.device_id, one.variable_id, one.value) for one in made if isinstance(one, VariableValue)}
    assert edges == {
        (one.device_id, one.variable_id, one.value)
        for one in recorded
        if isinstance(one, VariableValue) and one.device_id >= 0x80000000
    }


def test_every_event_of_the_source_is_in_its_bank_and_pulse() -> None:
    pixel_map = recorded_map()
    made = [one for one in feed(assembler(), (DATA / "raw_gen.adara").read_bytes()) if isinstance(one, BankedEvents)]
    # The recording ends within a pulse, after its RTDL.
    assert made.pop().sources == ()
    raw = raw_pulses()
    assert len(made) == len(raw)
    for pulse, (_, events) in zip(made, raw, strict=True):
        wanted = [
            (int(pixel_map.bank[pixel]), int(pixel_map.logical[pixel]), int(tof))
            for tof, pixel in zip(events.tof, events.pixel, strict=True)
            if pixel >> 28 == 0
        ]
        found = [
            (bank.bank_id, int(pixel), int(tof))
            for bank in pulse.sources[0].banks
            for tof, pixel in zip(bank.tof, bank.pixel, strict=True)
        ]
        # Within a bank the order is the stream's.
        assert found == sorted(wanted, key=lambda event: event[0])


def test_error_and_unmapped_events_are_kept_in_banks_of_their_own() -> None:
    packet, events = raw_pulses()[0]
    changed = RawEvents(
        False,
        events.source_id,
        True,
        0,
        1,
        events.timing,
        np.array([10, 20, 30], np.uint32),
        np.array([0x80000005, 0x0FFFFFFF, 0x50000001], np.uint32),
    )
    made = feed(assembler(), encode(changed, packet.seconds, packet.nanoseconds))
    banked = next(one for one in made if isinstance(one, BankedEvents))
    banks = {bank.bank_id: bank.pixel.tolist() for bank in banked.sources[0].banks}
    assert banks == {BANK_ERROR: [0x80000005, 0xD0000001], BANK_UNMAPPED: [0x8FFFFFFF]}
    assert banked.pulse.flags & MISSING_RTDL
    assert banked.pulse.flags & 0x011 == 0x011


def test_a_lost_packet_and_a_missing_end_are_flagged() -> None:
    data = bytearray()
    for number, (packet, events) in enumerate(raw_pulses()[:4]):
        sequence, end = (1, True) if number == 1 else (0, number != 2)
        changed = RawEvents(False, events.source_id, end, sequence, number, events.timing, events.tof, events.pixel)
        rtdl = Rtdl(events.timing, 964728, (0,) * 25)
        data += encode(rtdl, packet.seconds, packet.nanoseconds) + encode(changed, packet.seconds, packet.nanoseconds)
    flags = [one.pulse.flags for one in feed(assembler(), bytes(data)) if isinstance(one, BankedEvents)]
    assert [bool(flag & PARTIAL_DATA) for flag in flags] == [False, True, True, False]
    assert [bool(flag & CHARGE_UNCORRECTED) for flag in flags] == [False, False, False, True]


def test_charge_and_veto_come_with_the_next_pulse() -> None:
    data = bytearray()
    for number, (packet, events) in enumerate(raw_pulses()[:3]):
        timing = events.timing
        told = type(timing)(
            timing.data_flags, 1, 1000 + number, False, False, 0, 0x80 if number == 1 else 4, number, 0, True, 0, 1
        )
        rtdl = Rtdl(told, 964728, (0,) * 25)
        data += encode(rtdl, packet.seconds, packet.nanoseconds)
        data += encode(
            RawEvents(False, events.source_id, True, 0, number, told, events.tof, events.pixel),
            packet.seconds,
            packet.nanoseconds,
        )
    pulses = [one.pulse for one in feed(assembler(), bytes(data)) if isinstance(one, BankedEvents)]
    assert [pulse.charge_10pc for pulse in pulses] == [1001, 1002, 1002]
    assert [bool(pulse.flags & 4) for pulse in pulses] == [True, False, False]
    assert [pulse.cycle for pulse in pulses] == [0, 1, 2]


def test_the_energy_follows_from_the_ring_period() -> None:
    assert ring_energy_ev(955259) == 937987556
    assert ring_energy_ev(964728) == 885334890
    assert ring_energy_ev(0) == 0
