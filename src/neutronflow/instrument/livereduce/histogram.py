"""The run that is being taken, as a histogram over time of flight and a count rate over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.eventpackets import BANK_ERROR, DUPLICATE_PULSE, BankedEvents
from neutronflow.domain.adara.packets import RunInfo, RunStatus, RunStatusCode, decode
from neutronflow.domain.adara.wire import BadPacket, Packet, PacketType
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

_READ: Final = (PacketType.BANKED_EVENT, PacketType.BANKED_EVENT_STATE, PacketType.RUN_STATUS, PacketType.RUN_INFO)
#: The count rate is drawn over at most so many points; then two become one.
_MOST_POINTS: Final = 600
_POINT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn. ``counts`` has shape (bins,), ``edges_us`` (bins + 1,); ``rate`` (1/s) and ``at_s`` shape (points,)."""

    run_number: int
    title: str
    simulated: bool
    counts: npt.NDArray[np.int64]
    edges_us: npt.NDArray[np.float64]
    at_s: npt.NDArray[np.float64]
    rate: npt.NDArray[np.float64]
    total: int
    pulses: int
    #: Time of the newest pulse, Unix seconds.
    last_pulse: float


class LiveHistogram:
    """Follows the stream. Events that lie beyond the histogram are counted in the total only."""

    def __init__(self, tof_max_us: float, bins: int) -> None:
        self._bins = bins
        self._edges = np.linspace(0.0, tof_max_us, bins + 1)
        self._width = tof_max_us * 10 / bins
        self.bad = 0
        self._clear(0)

    @property
    def run(self) -> int:
        """The run that is being taken, or 0."""
        return self._run

    def connected(self) -> None:
        """The stream begins anew, with the run's beginning."""
        self._clear(0)

    def lost(self, reason: str) -> None:
        """The picture stays; the run comes again from its beginning."""

    def packets(self, packets: Sequence[Packet], size: int) -> None:
        """Take packets; what cannot be understood is counted, and the rest goes on."""
        del size
        self._tofs: list[npt.NDArray[np.uint32]] = []
        for packet in packets:
            if packet.base not in _READ:
                continue
            try:
                self._take(packet, decode(packet))
            except (BadPacket, ValueError) as error:
                self.bad += 1
                log.warning("bad_packet", type=f"{packet.base:#06x}", detail=str(error)[:300])
        self._work()

    def _take(self, packet: Packet, content: object) -> None:
        match content:
            case BankedEvents() if self._run and not content.pulse.flags & DUPLICATE_PULSE:
                before = self.total
                for source in content.sources:
                    for bank in source.banks:
                        if bank.bank_id < BANK_ERROR:
                            self._tofs.append(bank.tof)
                            self.total += len(bank.tof)
                self._pulse(packet.time_ns, self.total - before)
            case RunStatus():
                running = content.run_number if content.status is not RunStatusCode.END_RUN else 0
                if running != self._run:
                    self._work()
                    self._clear(running)
            case RunInfo():
                self._title = (content.text("run_title") or "")[:200]
                self._simulated = content.text("simulated") == "true"

    def _work(self) -> None:
        if self._tofs:
            index = (np.concatenate(self._tofs) / self._width).astype(np.int64)
            self._counts += np.bincount(index[index < self._bins], minlength=self._bins)
            self._tofs = []

    def _clear(self, run: int) -> None:
        self._run = run
        self._counts = np.zeros(self._bins, np.int64)
        self._tofs = []
        self.total = self.pulses = 0
        self._title, self._simulated = "", False
        self._first_ns = self._last_ns = 0
        self._point_s = _POINT_S
        #: Events by interval since the first pulse.
        self._points: list[int] = []

    def _pulse(self, time_ns: int, events: int) -> None:
        self._first_ns = self._first_ns or time_ns
        self._last_ns = max(self._last_ns, time_ns)
        self.pulses += 1
        point = int(max(0, time_ns - self._first_ns) / 1e9 / self._point_s)
        while point >= _MOST_POINTS:
            self._points += [0] * (len(self._points) % 2)
            self._points = [sum(pair) for pair in zip(self._points[::2], self._points[1::2], strict=True)]
            self._point_s *= 2
            point //= 2
        self._points += [0] * (point + 1 - len(self._points))
        self._points[point] += events

    def picture(self) -> Picture | None:
        """What there is now; None where no run is being taken, or nothing of it has come yet."""
        if not self._run or not self.pulses:
            return None
        # The last interval is not over: its rate would be too low.
        points = np.array(self._points[:-1] or self._points, float)
        duration = self._point_s if len(self._points) > 1 else max((self._last_ns - self._first_ns) / 1e9, 1 / 60)
        return Picture(
            run_number=self._run,
            title=self._title,
            simulated=self._simulated,
            counts=self._counts.copy(),
            edges_us=self._edges,
            at_s=np.arange(0.5, len(points), dtype=np.float64) * self._point_s,
            rate=points / duration,
            total=self.total,
            pulses=self.pulses,
            last_pulse=self._last_ns / 1e9,
        )
