"""Numbers of beam, run and stream, counted pulse by pulse."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neutronflow.domain.adara.eventpackets import (
    BANK_ERROR,
    BANK_UNMAPPED,
    CHARGE_UNCORRECTED,
    DUPLICATE_PULSE,
    GOT_METADATA,
    GOT_NEUTRONS,
    HAS_STATES,
    MAPPING_ERROR,
    MISSING_RTDL,
    PULSE_VETO,
    BankedEvents,
    MonitorEvents,
)
from neutronflow.domain.adara.wire import Packet

#: flag of a pulse -> the run metric that counts it.
_FLAGS: Final = {
    DUPLICATE_PULSE: "dup_pulse_count",
    PULSE_VETO: "pulse_veto_count",
    MAPPING_ERROR: "mapping_error_count",
    MISSING_RTDL: "missing_rtdl_count",
    CHARGE_UNCORRECTED: "pulse_pcharge_uncorrected",
    GOT_METADATA: "got_metadata_count",
    GOT_NEUTRONS: "got_neutrons_count",
    HAS_STATES: "has_states_count",
}
_PERIOD_NS: Final = 16_666_667
_CYCLES: Final = 600
_PICOCOULOMBS: Final = 10.0


@dataclass(slots=True)
class PulseNumbers:
    """One pulse: time (Unix ns), detector events, events with errors, charge (pC), events by monitor."""

    time_ns: int
    events: int = 0
    errors: int = 0
    charge_pc: float = 0.0
    monitors: dict[int, int] = field(default_factory=dict)


class Metrics:
    """Counts; :meth:`beam`, :meth:`run` and :meth:`stream` give what is told. All numbers are made text there."""

    def __init__(self, window: int, max_tof_us: float) -> None:
        self._window: deque[PulseNumbers] = deque(maxlen=window)
        self._max_tof = int(max_tof_us * 10)
        self._bytes: deque[tuple[float, int]] = deque()
        self._flagged: Counter[str] = Counter()
        self._stream: Counter[str] = Counter()
        self._last_cycle: int | None = None
        self.begin_run()

    def begin_run(self) -> None:
        """Count a run from nothing."""
        self._flagged.clear()
        self._counts = self._errors = self._pulses = 0
        self._charge_pc = 0.0
        self._first_ns = self._last_ns = 0

    def received(self, size: int) -> None:
        """So many bytes came."""
        now = time.monotonic()
        self._bytes.append((now, size))
        while self._bytes and now - self._bytes[0][0] > 2.0:
            self._bytes.popleft()

    def bad_packet(self, kind: str) -> None:
        """Something in the stream was wrong; ``kind`` is the stream metric."""
        self._stream[kind] += 1

    def monitors(self, packet: Packet, content: MonitorEvents) -> None:
        """Take the beam monitors of a pulse; they come before its banked events."""
        if content.pulse.flags & DUPLICATE_PULSE:
            return
        pulse = self._pulse(packet)
        for section in content.monitors:
            pulse.monitors[section.monitor_id] = pulse.monitors.get(section.monitor_id, 0) + len(section.events)

    def banked(self, packet: Packet, content: BankedEvents, *, counting: bool) -> None:
        """Take the banked events of a pulse; ``counting``: for the run, too."""
        head = content.pulse
        if counting:
            for flag, name in _FLAGS.items():
                self._flagged[name] += bool(head.flags & flag)
        if head.flags & DUPLICATE_PULSE:
            self._stream["dup_pkt"] += 1
            return
        pulse = self._pulse(packet)
        self._check(packet, head.cycle)
        for source in content.sources:
            for bank in source.banks:
                if bank.bank_id == BANK_ERROR:
                    pulse.errors += len(bank.tof)
                elif bank.bank_id == BANK_UNMAPPED:
                    self._stream["pix_map"] += len(bank.tof)
                else:
                    pulse.events += len(bank.tof)
                    self._stream["pix_tof"] += int(np.count_nonzero(bank.tof > self._max_tof))
        pulse.charge_pc = head.charge_10pc * _PICOCOULOMBS
        if counting:
            self._pulses += 1
            self._counts += pulse.events
            self._errors += pulse.errors
            self._charge_pc += pulse.charge_pc
            self._first_ns = self._first_ns or pulse.time_ns
            self._last_ns = pulse.time_ns

    def _pulse(self, packet: Packet) -> PulseNumbers:
        if not self._window or self._window[-1].time_ns != packet.time_ns:
            self._window.append(PulseNumbers(packet.time_ns))
        return self._window[-1]

    def _check(self, packet: Packet, cycle: int) -> None:
        if self._last_cycle is not None and cycle != (self._last_cycle + 1) % _CYCLES:
            self._stream["cycle"] += 1
        self._last_cycle = cycle
        if len(self._window) > 1:
            step = packet.time_ns - self._window[-2].time_ns
            self._stream["pulse_freq"] += abs(step - _PERIOD_NS) > 1_000_000

    def beam(self) -> dict[str, str | Mapping[str, str]]:
        """Means over the last pulses, as rates; of a stream that has stopped, zero."""
        pulses = [] if self._stalled() else list(self._window)
        count = len(pulses) or 1
        steps = pulses[-1].time_ns - pulses[0].time_ns if len(pulses) > 1 else 0
        frequency = (len(pulses) - 1) * 1e9 / steps if steps > 0 else 0.0
        names = sorted({name for one in pulses for name in one.monitors})
        now = time.monotonic()
        recent = [size for at, size in self._bytes if now - at <= 1.0]
        return {
            "count_rate": _text(sum(one.events for one in pulses) / count * frequency),
            "pulse_charge": _text(sum(one.charge_pc for one in pulses) / count),
            "pulse_freq": _text(frequency),
            "pixel_error_rate": _text(sum(one.errors for one in pulses) / count * frequency),
            "stream_bps": str(sum(recent)),
            "monitors": {
                str(name): _text(sum(one.monitors.get(name, 0) for one in pulses) / count * frequency) for name in names
            },
        }

    def _stalled(self) -> bool:
        return not self._bytes or time.monotonic() - self._bytes[-1][0] > 2.0

    def run(self) -> dict[str, str]:
        """Totals of the run."""
        duration = (self._last_ns - self._first_ns) / 1e9 if self._first_ns else 0.0
        return {
            "total_time": _text(duration),
            "total_counts": str(self._counts),
            "total_charge": _text(self._charge_pc),
            "pixel_error_count": str(self._errors),
            **{name: str(self._flagged[name]) for name in _FLAGS.values()},
            "total_pulses_count": str(self._pulses),
        }

    def stream(self) -> dict[str, str]:
        """What was wrong in the stream since the service began."""
        names = (
            "pkt_type",
            "inv_pkt",
            "dup_pkt",
            "pulse_freq",
            "cycle",
            "pix_map",
            "pix_tof",
            "ddp_xml",
            "runinfo_xml",
        )
        return {name: str(self._stream[name]) for name in names}


def _text(number: float) -> str:
    return f"{number:.10g}"
