"""Packets that carry neutrons: raw and banked events, beam monitors, RTDL.

TOF is in units of 100 ns, charge in 10 pC, intra-pulse time in 100 ns, energy in eV, ring period in ps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neutronflow.domain.adara.fields import Cursor, U32Array, words
from neutronflow.domain.adara.wire import Packet

#: Banks that are no detector banks.
BANK_UNMAPPED = 0xFFFFFFFF
BANK_ERROR = 0xFFFFFFFE
#: Bits of ``flags`` of a pulse.
ERROR_PIXELS = 0x001
PARTIAL_DATA = 0x002
PULSE_VETO = 0x004
MISSING_RTDL = 0x008
MAPPING_ERROR = 0x010
DUPLICATE_PULSE = 0x020
CHARGE_UNCORRECTED = 0x040
VETO_UNCORRECTED = 0x080
GOT_METADATA = 0x100
GOT_NEUTRONS = 0x200
HAS_STATES = 0x400
FLAGS_MASK = 0xFFFFF
#: TOF of a beam monitor event: its low 21 bits.
MONITOR_TOF_MASK = 0x1FFFFF


@dataclass(frozen=True, slots=True)
class PulseTiming:
    """What RTDL and raw events say of a pulse. Charge and veto describe the previous pulse."""

    data_flags: int
    flavour: int
    charge_10pc: int
    bad_veto: bool
    bad_cycle: bool
    timing_status: int
    veto: int
    cycle: int
    intra_pulse_100ns: int
    corrected: bool
    tof_offset_100ns: int
    version: int

    @classmethod
    def read(cls, cursor: Cursor, version: int) -> PulseTiming:
        """Read the four words that RTDL and raw events share."""
        beam, status, intra, offset = cursor.words(4, "the pulse timing")
        return cls(
            data_flags=beam >> 27 if version else 0,
            flavour=(beam >> 24) & (0x7 if version else 0xFF),
            charge_10pc=beam & 0xFFFFFF,
            bad_veto=bool(status >> 31),
            bad_cycle=bool((status >> 30) & 1),
            timing_status=(status >> 22) & 0xFF,
            veto=(status >> 10) & 0xFFF,
            cycle=status & 0x3FF,
            intra_pulse_100ns=intra,
            corrected=bool(offset >> 31),
            tof_offset_100ns=offset & 0x7FFFFFFF,
            version=version,
        )

    def to_bytes(self) -> bytes:
        """The four words."""
        beam = (self.data_flags << 27) | (self.flavour << 24) | self.charge_10pc
        status = (
            (self.bad_veto << 31) | (self.bad_cycle << 30) | (self.timing_status << 22) | (self.veto << 10) | self.cycle
        )
        return words(beam, status, self.intra_pulse_100ns, (self.corrected << 31) | self.tof_offset_100ns)


@dataclass(frozen=True, slots=True)
class RawEvents:
    """RAW_EVENT or MAPPED_EVENT: what a detector source sends. ``tof`` and ``pixel`` have shape (events,)."""

    mapped: bool
    source_id: int
    end_of_pulse: bool
    pulse_sequence: int
    source_sequence: int
    timing: PulseTiming
    tof: U32Array
    pixel: U32Array

    @classmethod
    def read(cls, packet: Packet, *, mapped: bool) -> RawEvents:
        """Decode; every field is checked against the payload."""
        cursor = Cursor(packet)
        source, sequence = cursor.words(2, "the source")
        timing = PulseTiming.read(cursor, packet.version)
        if cursor.left % 8:
            raise cursor.fail(f"{cursor.left} bytes of events are no whole number of them")
        events = cursor.u32s(cursor.left // 4, "the events")
        return cls(
            mapped,
            source,
            bool(sequence >> 31),
            (sequence >> 16) & 0x7FFF,
            sequence & 0xFFFF,
            timing,
            events[0::2],
            events[1::2],
        )

    def to_bytes(self) -> bytes:
        """The payload."""
        sequence = (self.end_of_pulse << 31) | (self.pulse_sequence << 16) | self.source_sequence
        return words(self.source_id, sequence) + self.timing.to_bytes() + _interleaved(self.tof, self.pixel)


@dataclass(frozen=True, slots=True)
class Rtdl:
    """The accelerator's real-time data link, 25 frames of (number << 24 | data), 0 where unused."""

    timing: PulseTiming
    ring_period_ps: int
    frames: tuple[int, ...]

    @classmethod
    def read(cls, packet: Packet) -> Rtdl:
        """Decode; the fifth word has to be frame 4, the ring period."""
        cursor = Cursor(packet)
        timing = PulseTiming.read(cursor, packet.version)
        ring = cursor.word("the ring period")
        if ring >> 24 != 4:
            raise cursor.fail("the ring period is missing")
        frames = cursor.words(25, "the frames")
        cursor.end()
        return cls(timing, ring & 0xFFFFFF, frames)

    def to_bytes(self) -> bytes:
        """The payload."""
        return self.timing.to_bytes() + words((4 << 24) | self.ring_period_ps, *self.frames)


@dataclass(frozen=True, slots=True)
class Bank:
    """The events of one bank in one pulse; ``state`` only in BANKED_EVENT_STATE. Arrays have shape (events,)."""

    bank_id: int
    tof: U32Array
    pixel: U32Array
    state: int | None = None


@dataclass(frozen=True, slots=True)
class SourceSection:
    """What one detector source contributed to a pulse."""

    source_id: int
    intra_pulse_100ns: int
    corrected: bool
    tof_offset_100ns: int
    banks: tuple[Bank, ...]


@dataclass(frozen=True, slots=True)
class PulseHeader:
    """What banked events and beam monitors say of their pulse. ``veto`` is None in version 0."""

    charge_10pc: int
    energy_ev: int
    cycle: int
    veto: int | None
    flags: int

    @classmethod
    def read(cls, cursor: Cursor, version: int) -> PulseHeader:
        """Read the four leading words."""
        charge, energy, cycle, flags = cursor.words(4, "the pulse")
        if version == 0:
            return cls(charge, energy, cycle, None, flags)
        return cls(charge, energy, cycle, flags >> 20, flags & FLAGS_MASK)

    @property
    def version(self) -> int:
        """The packet version in which this is written."""
        return 0 if self.veto is None else 1

    def to_bytes(self) -> bytes:
        """The four words."""
        return words(self.charge_10pc, self.energy_ev, self.cycle, ((self.veto or 0) << 20) | self.flags)


@dataclass(frozen=True, slots=True)
class BankedEvents:
    """BANKED_EVENT, or BANKED_EVENT_STATE where ``with_state``: the detector events of one pulse."""

    pulse: PulseHeader
    sources: tuple[SourceSection, ...]
    with_state: bool = False

    @classmethod
    def read(cls, packet: Packet, *, with_state: bool) -> BankedEvents:
        """Decode; section counts are never trusted beyond the payload."""
        cursor = Cursor(packet)
        # BANKED_EVENT_STATE began with the layout of version 1.
        pulse = PulseHeader.read(cursor, 1 if with_state else packet.version)
        sources = []
        while cursor.left:
            source, intra, offset, count = cursor.words(4, "a source section")
            banks = tuple(
                _read_bank(cursor, with_state) for _ in range(_bounded(cursor, count, 12 if with_state else 8))
            )
            sources.append(SourceSection(source, intra, bool(offset >> 31), offset & 0x7FFFFFFF, banks))
        return cls(pulse, tuple(sources), with_state)

    def to_bytes(self) -> bytes:
        """The payload."""
        parts = [self.pulse.to_bytes()]
        for source in self.sources:
            offset = (source.corrected << 31) | source.tof_offset_100ns
            parts.append(words(source.source_id, source.intra_pulse_100ns, offset, len(source.banks)))
            for bank in source.banks:
                state = (bank.state or 0,) if self.with_state else ()
                parts.append(words(bank.bank_id, *state, len(bank.tof)) + _interleaved(bank.tof, bank.pixel))
        return b"".join(parts)


def _read_bank(cursor: Cursor, with_state: bool) -> Bank:
    bank_id = cursor.word("a bank")
    state = cursor.word("a bank's state") if with_state else None
    count = cursor.word("a bank's event count")
    events = cursor.u32s(2 * count, f"bank {bank_id}")
    return Bank(bank_id, events[0::2], events[1::2], state)


@dataclass(frozen=True, slots=True)
class MonitorSection:
    """One beam monitor in one pulse. ``events`` (shape (events,)): bit 31 rising, 30-21 cycle, 20-0 TOF."""

    monitor_id: int
    source_id: int
    corrected: bool
    tof_offset_100ns: int
    events: U32Array


@dataclass(frozen=True, slots=True)
class MonitorEvents:
    """BEAM_MONITOR_EVENT: the beam monitors of one pulse."""

    pulse: PulseHeader
    monitors: tuple[MonitorSection, ...]

    @classmethod
    def read(cls, packet: Packet) -> MonitorEvents:
        """Decode; section counts are never trusted beyond the payload."""
        cursor = Cursor(packet)
        pulse = PulseHeader.read(cursor, packet.version)
        monitors = []
        while cursor.left:
            head, source, offset = cursor.words(3, "a monitor section")
            events = cursor.u32s(head & 0x3FFFFF, f"monitor {head >> 22}")
            monitors.append(MonitorSection(head >> 22, source, bool(offset >> 31), offset & 0x7FFFFFFF, events))
        return cls(pulse, tuple(monitors))

    def to_bytes(self) -> bytes:
        """The payload."""
        parts = [self.pulse.to_bytes()]
        for monitor in self.monitors:
            offset = (monitor.corrected << 31) | monitor.tof_offset_100ns
            parts.append(words((monitor.monitor_id << 22) | len(monitor.events), monitor.source_id, offset))
            parts.append(monitor.events.astype("<u4").tobytes())
        return b"".join(parts)


def _bounded(cursor: Cursor, count: int, least_bytes: int) -> int:
    if count * least_bytes > cursor.left:
        raise cursor.fail(f"{count} banks cannot stand in {cursor.left} bytes")
    return count


def _interleaved(first: U32Array, second: U32Array) -> bytes:
    both = np.empty(2 * len(first), dtype="<u4")
    both[0::2], both[1::2] = first, second
    return both.tobytes()
