"""The detector source: what the data acquisition sends the stream service, as the facility's event generator does.

For each pulse an RTDL packet, then RAW_EVENT packets of at most 8192 bytes: the chopper's top dead centre, beam monitors,
detectors. Charge and veto in them describe the pulse before.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.packets import PulseTiming, Rtdl, encode
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX, HEADER_BYTES, PacketType
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.simulator.clients import Clients
from neutronflow.instrument.simulator.pulses import PULSES_PER_S, Generator, Pulse, cycle, pulse_ns, pulse_number

log = get_logger(__name__)

SOURCE_ID: Final = 31416
MAX_PACKET_BYTES: Final = 8192
RING_PERIOD_PS: Final = 964_728
#: GOT_NEUTRONS and GOT_METADATA; then flavours: normal beam to target 1, and none.
_DATA_FLAGS: Final = 3
_BEAM: Final = 1
_NO_BEAM: Final = 0
_END_OF_PULSE: Final = 1 << 31
_KIND_MONITOR: Final = 4 << 28
_KIND_CHOPPER: Final = 7 << 28
_RISING: Final = 1
#: The chopper passes its top dead centre so long after the pulse, in 100 ns.
_CHOPPER_TOF: Final = 2
_HEADER = struct.Struct("<IIII")
_EVENT_HEAD_BYTES: Final = 24
_MAX_EVENTS: Final = (MAX_PACKET_BYTES - HEADER_BYTES - _EVENT_HEAD_BYTES) // 8
_NS: Final = 1_000_000_000
#: A source that has fallen so far behind gives up what it has missed.
_MOST_BEHIND_S: Final = 1.0


class Packer:
    """Packets of one pulse after the other."""

    def __init__(self) -> None:
        #: Counts every packet, RTDL too, as the generator does.
        self._sequence = 0

    def packets(self, pulse: Pulse, charge_before_10pc: int, previous: int) -> bytes:
        """What is sent for a pulse; ``previous`` is the number of the pulse sent before."""
        seconds, nanoseconds = divmod(pulse_ns(pulse.number), _NS)
        timing = PulseTiming(
            data_flags=_DATA_FLAGS,
            flavour=_BEAM if cycle(pulse.number) else _NO_BEAM,
            charge_10pc=charge_before_10pc,
            bad_veto=False,
            bad_cycle=False,
            timing_status=0,
            veto=0,
            cycle=cycle(pulse.number),
            intra_pulse_100ns=min((pulse_ns(pulse.number) - pulse_ns(previous)) // 100, 0xFFFFFFFF),
            corrected=True,
            tof_offset_100ns=0,
            version=1,
        )
        parts = [encode(Rtdl(timing, RING_PERIOD_PS, (0,) * 25), seconds, nanoseconds)]
        self._count()
        events, shared = _events(pulse), timing.to_bytes()
        packets = max(1, -(-(len(events) // 2) // _MAX_EVENTS))
        for number in range(packets):
            part = events[2 * number * _MAX_EVENTS : 2 * (number + 1) * _MAX_EVENTS]
            last = _END_OF_PULSE if number == packets - 1 else 0
            length = _EVENT_HEAD_BYTES + 4 * len(part)
            parts += [
                _HEADER.pack(length, (PacketType.RAW_EVENT << 8) | 1, seconds, nanoseconds),
                struct.pack("<II", SOURCE_ID, last | (number << 16) | self._sequence),
                shared,
                part.tobytes(),
            ]
            self._count()
        return b"".join(parts)

    def _count(self) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF


def _events(pulse: Pulse) -> npt.NDArray[np.uint32]:
    """TOF and physical pixel of each event, alternating."""
    monitors = [(_KIND_MONITOR | (number << 16) | _RISING, tof) for number, tof in pulse.monitors.items()]
    others = 1 + sum(len(tof) for _, tof in monitors)
    both = np.empty(2 * (others + len(pulse.tof)), "<u4")
    tofs, pixels = both[0::2], both[1::2]
    tofs[0], pixels[0] = _CHOPPER_TOF, _KIND_CHOPPER | _RISING
    at = 1
    for pixel, tof in monitors:
        tofs[at : at + len(tof)], pixels[at : at + len(tof)] = tof, pixel
        at += len(tof)
    tofs[at:], pixels[at:] = pulse.tof, pulse.pixel
    return both


class WallClock:
    """The time in ns since the EPICS epoch: it goes on evenly, and only a jump forward of the machine's clock moves it."""

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady() - EPICS_EPOCH_UNIX * _NS

    def now(self) -> int:
        """The time; never less than before."""
        offset = self._wall() - self._steady() - EPICS_EPOCH_UNIX * _NS
        if offset - self._offset > _NS:
            log.warning("clock_moved_forward", seconds=(offset - self._offset) / _NS)
            self._offset = offset
        return self._steady() + self._offset


@dataclass(slots=True)
class DetectorSource:
    """Sends pulses by the clock, as long as somebody listens; what is drawn is given to ``drawn`` before it is sent."""

    generator: Generator
    clients: Clients
    drawn: Callable[[Pulse], None]
    clock: WallClock = field(default_factory=WallClock)
    #: Pulses that were left out because the machine stood still.
    missed: int = 0
    sent: int = 0

    async def run(self) -> None:
        """Send until cancelled. A pulse is sent when it is over: with the next one's beginning."""
        packer, number = Packer(), pulse_number(self.clock.now())
        previous = number - 1
        charge_before = self.generator.charge(previous)
        while True:
            due = pulse_ns(number + 1)
            # Also when behind: others have to have their turn.
            await asyncio.sleep(max(0.0, (due - self.clock.now()) / _NS))
            behind = pulse_number(self.clock.now()) - (number + 1)
            if behind > _MOST_BEHIND_S * PULSES_PER_S:
                log.warning("pulses_missed", pulses=behind)
                self.missed += behind
                number += behind
                charge_before = self.generator.charge(number - 1)
            if len(self.clients):
                pulse = self.generator.pulse(number)
                self.drawn(pulse)
                self.clients.send(packer.packets(pulse, charge_before, previous))
                self.sent += 1
                charge_before = pulse.charge_10pc
            else:
                charge_before = self.generator.charge(number)
            previous, number = number, number + 1
