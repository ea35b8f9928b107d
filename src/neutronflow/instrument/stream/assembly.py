"""From what detector sources send to the packets of a pulse: RTDL, beam monitors, banked events, choppers.

Events of a pulse are gathered by source until each active source has said that the pulse is over. Charge and veto of a pulse
are told with the next one, so a pulse waits for that, too; one that has waited too long is passed on as it is, flagged.
No Python runs per event: the events of a source in a pulse are mapped and sorted by bank as arrays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.eventpackets import (
    BANK_ERROR,
    BANK_UNMAPPED,
    CHARGE_UNCORRECTED,
    DUPLICATE_PULSE,
    ERROR_PIXELS,
    GOT_METADATA,
    GOT_NEUTRONS,
    MAPPING_ERROR,
    MISSING_RTDL,
    MONITOR_TOF_MASK,
    PARTIAL_DATA,
    PULSE_VETO,
    VETO_UNCORRECTED,
    Bank,
    BankedEvents,
    MonitorEvents,
    MonitorSection,
    PulseHeader,
    PulseTiming,
    RawEvents,
    Rtdl,
    SourceSection,
)
from neutronflow.domain.adara.packets import encode
from neutronflow.domain.adara.wire import Packet
from neutronflow.instrument.stream.choppers import Choppers
from neutronflow.instrument.stream.pixels import UNMAPPED, PixelMap

Words = npt.NDArray[np.uint32]

_PIXEL_ERROR: Final = np.uint32(1 << 31)
_KIND_DETECTOR: Final = 0
_KIND_MONITOR: Final = 4
_KIND_CHOPPER: Final = 7
#: Everything but "not target 2" vetoes a pulse of target station 1.
_NO_VETO: Final = 0x004
#: The next pulse's charge is this pulse's, if it comes after 77 to 123 % of the period.
_PERIOD_NS: Final = 1e9 / 60
_NEXT: Final = (0.77 * _PERIOD_NS, 1.23 * _PERIOD_NS)
#: From target to ring detector of the accelerator, and what follows of the speed.
_RING_M: Final = 248.0
_LIGHT_M_PER_S: Final = 299792458.0
_PROTON_EV: Final = 938.257e6
#: So many pulse ids that were passed on are remembered, to tell late events.
_REMEMBERED: Final = 4096


@dataclass(slots=True)
class Contribution:
    """What one source has sent of a pulse so far."""

    timing: PulseTiming
    tof: list[Words] = field(default_factory=list)
    pixel: list[Words] = field(default_factory=list)
    mapped: bool = False
    complete: bool = False
    #: The sequence number that the next packet has to have.
    expected: int = 0
    gap: bool = False


@dataclass(slots=True)
class Pulse:
    """A pulse that is being gathered."""

    pulse_id: int
    begun: float
    rtdl: Rtdl | None = None
    sources: dict[int, Contribution] = field(default_factory=dict)

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the EPICS epoch."""
        return (self.pulse_id >> 32) * 1_000_000_000 + (self.pulse_id & 0xFFFFFFFF)


@dataclass(slots=True)
class Counters:
    """What was seen since the service began."""

    pulses: int = 0
    events: int = 0
    monitor_events: int = 0
    error_events: int = 0
    unmapped_events: int = 0
    partial_pulses: int = 0
    late_packets: int = 0
    bad_pulse_ids: int = 0


class PulseAssembler:
    """Takes packets of detector sources in the order they come; gives the packets of finished pulses, in order of time."""

    def __init__(self, pixel_map: PixelMap, choppers: Choppers, *, wait_s: float, max_pulses: int) -> None:
        self._map = pixel_map
        self._bank_of_logical = _bank_of_logical(pixel_map)
        self._choppers = choppers
        self._wait_s = wait_s
        self._max_pulses = max_pulses
        self._pulses: dict[int, Pulse] = {}
        self._active: set[int] = set()
        #: Which sources a connection has spoken for.
        self._of_connection: dict[str, set[int]] = {}
        self._passed_on: dict[int, None] = {}
        self.counters = Counters()

    def take(self, connection: str, packet: Packet, content: RawEvents | Rtdl) -> None:
        """Take a RAW_EVENT, MAPPED_EVENT or RTDL packet; its arrays are copied."""
        if packet.pulse_id == 0:
            self.counters.bad_pulse_ids += 1
            return
        pulse = self._pulses.get(packet.pulse_id)
        if pulse is None:
            pulse = self._pulses[packet.pulse_id] = Pulse(packet.pulse_id, time.monotonic())
        if isinstance(content, Rtdl):
            pulse.rtdl = content
            return
        source = content.source_id
        if source not in self._active:
            self._active.add(source)
            self._of_connection.setdefault(connection, set()).add(source)
        part = pulse.sources.get(source)
        if part is None:
            part = pulse.sources[source] = Contribution(content.timing, mapped=content.mapped)
        part.gap |= content.pulse_sequence != part.expected & 0x7FFF
        part.expected = content.pulse_sequence + 1
        part.complete |= content.end_of_pulse
        part.tof.append(content.tof.copy())
        part.pixel.append(content.pixel.copy())

    def disconnected(self, connection: str) -> None:
        """Nobody waits any more for the sources of this connection."""
        self._active -= self._of_connection.pop(connection, set())

    def finished(self, *, everything: bool = False) -> Iterator[bytes]:
        """The packets of each pulse that need not wait any longer."""
        now = time.monotonic()
        order = sorted(self._pulses)
        for position, pulse_id in enumerate(order):
            pulse = self._pulses[pulse_id]
            following = self._pulses[order[position + 1]] if position + 1 < len(order) else None
            ready = self._complete(pulse) and following is not None and following.rtdl is not None
            overdue = now - pulse.begun > self._wait_s or len(self._pulses) > self._max_pulses
            if not (ready or overdue or everything):
                return
            del self._pulses[pulse_id]
            yield self._packets(pulse, following)

    def _complete(self, pulse: Pulse) -> bool:
        if pulse.rtdl is None or not self._active:
            return False
        return all(source in pulse.sources and pulse.sources[source].complete for source in self._active)

    def _packets(self, pulse: Pulse, following: Pulse | None) -> bytes:
        header, late = self._header(pulse, following)
        seconds, nanoseconds = pulse.pulse_id >> 32, pulse.pulse_id & 0xFFFFFFFF
        sections: list[SourceSection] = []
        monitors: list[MonitorSection] = []
        edges: list[bytes] = []
        flags = header.flags
        for source, part in sorted(pulse.sources.items()):
            tof = part.tof[0] if len(part.tof) == 1 else np.concatenate(part.tof)
            pixel = part.pixel[0] if len(part.pixel) == 1 else np.concatenate(part.pixel)
            if not part.mapped:
                kind = (pixel >> np.uint32(28)) & np.uint32(7)
                if kind.any():
                    whole = (pixel & _PIXEL_ERROR) == 0
                    monitors += self._monitors(source, part, tof, pixel, whole & (kind == _KIND_MONITOR))
                    of_chopper = whole & (kind == _KIND_CHOPPER)
                    edges += self._choppers.edges(pulse.pulse_id, tof[of_chopper], pixel[of_chopper])
                    rest = ~(whole & ((kind == _KIND_MONITOR) | (kind == _KIND_CHOPPER)))
                    tof, pixel = tof[rest], pixel[rest]
            banks, seen = self._banks(tof, pixel, mapped=part.mapped)
            flags |= seen
            timing = part.timing
            sections.append(
                SourceSection(source, timing.intra_pulse_100ns, timing.corrected, timing.tof_offset_100ns, banks)
            )
        header = PulseHeader(header.charge_10pc, header.energy_ev, header.cycle, header.veto, flags)
        self._remember(pulse.pulse_id)
        self.counters.pulses += not late
        rtdl = [encode(pulse.rtdl, seconds, nanoseconds)] if pulse.rtdl is not None else []
        return b"".join(
            [
                *rtdl,
                encode(MonitorEvents(header, tuple(monitors)), seconds, nanoseconds),
                encode(BankedEvents(header, tuple(sections)), seconds, nanoseconds),
                *edges,
            ]
        )

    def _header(self, pulse: Pulse, following: Pulse | None) -> tuple[PulseHeader, bool]:
        """Charge, energy, cycle, veto and flags of a pulse; and whether it was passed on before."""
        own = pulse.rtdl.timing if pulse.rtdl is not None else None
        own = own or next((part.timing for part in pulse.sources.values()), None)
        charge, veto, cycle, flags = 0, 0, 0xFFFFFFFF, 0
        if own is not None:
            charge, veto, cycle = own.charge_10pc, own.veto, own.cycle
            flags |= (own.data_flags & 1 and GOT_NEUTRONS) | (own.data_flags & 2 and GOT_METADATA)
        if pulse.rtdl is None:
            flags |= MISSING_RTDL
        told = following.rtdl.timing if following is not None and following.rtdl is not None else None
        if told is not None and following is not None and _NEXT[0] <= following.time_ns - pulse.time_ns <= _NEXT[1]:
            charge, veto = told.charge_10pc, told.veto
        else:
            flags |= CHARGE_UNCORRECTED | VETO_UNCORRECTED
        if not flags & GOT_NEUTRONS:
            charge = 0
        if veto & ~_NO_VETO:
            flags |= PULSE_VETO
        if not self._complete(pulse) or any(part.gap for part in pulse.sources.values()):
            flags |= PARTIAL_DATA
            self.counters.partial_pulses += 1
        late = pulse.pulse_id in self._passed_on
        if late:
            flags |= DUPLICATE_PULSE
            self.counters.late_packets += 1
        energy = ring_energy_ev(pulse.rtdl.ring_period_ps) if pulse.rtdl is not None else 0
        return PulseHeader(charge, energy, cycle, veto, flags), late

    def _remember(self, pulse_id: int) -> None:
        self._passed_on[pulse_id] = None
        if len(self._passed_on) > _REMEMBERED:
            del self._passed_on[next(iter(self._passed_on))]

    def _monitors(
        self, source: int, part: Contribution, tof: Words, pixel: Words, which: npt.NDArray[np.bool_]
    ) -> Iterator[MonitorSection]:
        tof, pixel = tof[which], pixel[which]
        if not len(tof):
            return
        self.counters.monitor_events += len(tof)
        number = (pixel >> np.uint32(16)) & np.uint32(0xFFF)
        events = (tof & np.uint32(MONITOR_TOF_MASK)) | (pixel << np.uint32(31))
        timing = part.timing
        for one in np.unique(number):
            # A monitor's number has 10 bits in what clients get.
            if one < 1 << 10:
                chosen = events[number == one]
                yield MonitorSection(int(one), source, timing.corrected, timing.tof_offset_100ns, chosen)

    def _banks(self, tof: Words, pixel: Words, *, mapped: bool) -> tuple[tuple[Bank, ...], int]:
        """The events by bank, in stream order within each; and the pulse's flags that follow."""
        if not len(tof):
            return (), 0
        # Slots: banks by their number, then the two special ones, so that one sort of 16-bit numbers does it all.
        error = (pixel >> np.uint32(28)) != _KIND_DETECTOR
        physical = np.where(error, 0, pixel)
        inside = physical < len(self._map.bank)
        physical = np.where(inside, physical, 0)
        if mapped:
            slot = np.where(inside, self._bank_of_logical[physical], np.uint16(UNMAPPED))
            logical = pixel
        else:
            slot = np.where(inside, self._map.bank[physical], np.uint16(UNMAPPED))
            logical = np.where(slot == UNMAPPED, pixel | _PIXEL_ERROR, self._map.logical[physical])
        if error.any():
            logical = np.where(error, pixel | _PIXEL_ERROR, logical)
            slot = np.where(error, np.uint16(UNMAPPED - 1), slot)
        order = np.argsort(slot, kind="stable")
        slot, tof, logical = slot[order], tof[order], logical[order]
        starts = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
        ends = np.r_[starts[1:], len(slot)]
        banks, flags = [], 0
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            bank = int(slot[start])
            if bank == UNMAPPED:
                bank, flags = BANK_UNMAPPED, flags | MAPPING_ERROR
                self.counters.unmapped_events += end - start
            elif bank == UNMAPPED - 1:
                bank, flags = BANK_ERROR, flags | ERROR_PIXELS
                self.counters.error_events += end - start
            else:
                self.counters.events += end - start
            banks.append(Bank(bank, tof[start:end], logical[start:end].astype(np.uint32, copy=False)))
        return tuple(banks), flags


def _bank_of_logical(pixel_map: PixelMap) -> npt.NDArray[np.uint16]:
    """Bank by logical pixel, as long as the table by physical pixel: for sources that map their pixels themselves."""
    table = np.full(len(pixel_map.bank), UNMAPPED, np.uint16)
    known = (pixel_map.bank != UNMAPPED) & (pixel_map.logical < len(table))
    table[pixel_map.logical[known]] = pixel_map.bank[known]
    return table


def ring_energy_ev(ring_period_ps: int) -> int:
    """The protons' kinetic energy by the time they take around the ring."""
    beta = _RING_M / (ring_period_ps * 1e-12 * _LIGHT_M_PER_S) if ring_period_ps else 1.0
    if beta >= 1.0:
        return 0
    return int((1.0 / math.sqrt(1.0 - beta * beta) - 1.0) * _PROTON_EV)
