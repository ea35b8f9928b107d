"""From whole packets to event columns, compiled: the hot path of translation.

:class:`Demultiplexer` takes buffers of whole packets and gives :class:`EventBlock`: all events of the buffer, sorted by
bank (in stream order within a bank), with the index that says where each pulse begins. Compiled with numba, without the
GIL; numba's cache directory is the caller's business (``NUMBA_CACHE_DIR``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from neutronflow.domain.adara.eventpackets import (
    BANK_ERROR,
    BANK_UNMAPPED,
    DUPLICATE_PULSE,
    FLAGS_MASK,
    MONITOR_TOF_MASK,
)
from neutronflow.domain.adara.wire import HEADER_BYTES, MAX_PACKET_BYTES, BadPacket, PacketType

Words = npt.NDArray[np.uint32]

_BANKED: Final = int(PacketType.BANKED_EVENT)
_STATE: Final = int(PacketType.BANKED_EVENT_STATE)
_MONITOR: Final = int(PacketType.BEAM_MONITOR_EVENT)
_HEADER_WORDS: Final = HEADER_BYTES // 4
#: Bank ids have 16 bits in pixel maps; behind them stand the two special ones.
_ID_LIMIT: Final = 0x10000
_SLOT_UNMAPPED: Final = 0
_SLOT_ERROR: Final = 1
_MONITORS: Final = 1024
#: From so many events on, a section is copied by vector instructions.
_MANY: Final = 16
#: So many pulses are gathered before they are written into the rows of the index: a cache line of each.
_TILE: Final = 8

_REASONS: Final = {
    1: "the payload is no multiple of 4 bytes",
    2: f"the packet is longer than {MAX_PACKET_BYTES} bytes",
    3: "the time stamp has 1,000,000,000 nanoseconds or more",
    4: "a section goes beyond the payload",
    5: "the payload is too short for a pulse",
}


class Scratch:
    """Arrays that are used again for every buffer: fresh memory would cost more than the work on it."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, shape: int | tuple[int, int], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """An array of that shape with arbitrary content; an earlier one of that name is no longer valid."""
        size = shape if isinstance(shape, int) else shape[0] * shape[1]
        kept = self._kept.get(name)
        if kept is None or len(kept) < size:
            kept = self._kept[name] = np.empty(size + size // 8, dtype)
        return kept[:size].reshape(shape)


@dataclass(frozen=True, slots=True)
class EventBlock:
    """The events of one buffer. Slots are banks: 0 unmapped, 1 error, then those registered.

    ``pulse_id``, ``charge_10pc``, ``energy_ev``, ``cycle``, ``flags``, ``veto`` have shape (pulses,), as the banked events
    say, or the beam monitors where a pulse has nothing else; ``tof_us`` (f4, µs) and ``pixel`` shape (events,), slot s
    owning ``[starts[s]:starts[s + 1]]``; ``index`` has shape (slots, pulses): events of the slot before each pulse, counted
    from the beginning of the run. ``undefined`` counts events of banks that were not registered. The same for beam
    monitors, by their position in ``monitor_ids``. Events and indexes are valid until the next block.
    """

    pulse_id: npt.NDArray[np.uint64]
    charge_10pc: npt.NDArray[np.uint32]
    energy_ev: npt.NDArray[np.uint32]
    cycle: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint32]
    veto: npt.NDArray[np.uint32]
    tof_us: npt.NDArray[np.float32]
    pixel: Words
    starts: npt.NDArray[np.int64]
    index: npt.NDArray[np.uint64]
    undefined: int
    duplicates: int
    monitor_ids: tuple[int, ...]
    monitor_tof_us: npt.NDArray[np.float32]
    monitor_starts: npt.NDArray[np.int64]
    monitor_index: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Scan:
    """The packets of a buffer: word offsets and base types, shape (packets,); an unfinished one begins at word ``end``.

    Both are valid until the next scan with the same scratch.
    """

    at: npt.NDArray[np.int64]
    base: npt.NDArray[np.uint32]
    end: int


def scan(words: Words, stream_offset: int, scratch: Scratch | None = None) -> Scan:
    """Find the packets of a buffer that begins at a packet. Raises :class:`BadPacket` with the offset in the stream."""
    scratch = scratch or Scratch()
    at = scratch.array("at", len(words) // _HEADER_WORDS + 1, np.int64)
    base = scratch.array("base", len(at), np.uint32)
    count, end, problem = _scan(words, at, base)
    if problem:
        raise BadPacket(offset=stream_offset + 4 * end, detail=_REASONS[problem])
    return Scan(at[:count], base[:count], end)


def last_pulse(words: Words, found: Scan) -> int:
    """The position in ``found`` of the first event packet of the last pulse, or -1 where there is none."""
    return int(_last_pulse(words, found.at, found.base))


class Demultiplexer:
    """Sorts events by bank, buffer by buffer. Banks have to be registered; events of others are only counted."""

    def __init__(self, banks: Sequence[int] = ()) -> None:
        self.bank_ids: list[int] = [BANK_UNMAPPED, BANK_ERROR]
        #: Bank id -> slot; -1 where it is not registered.
        self._slots = np.full(_ID_LIMIT, -1, np.int32)
        self._totals = np.zeros(2, np.uint64)
        self._monitor_slots = np.full(_MONITORS, -1, np.int32)
        self._monitor_ids: list[int] = []
        self._monitor_totals = np.zeros(0, np.uint64)
        self._scratch = Scratch()
        for bank in banks:
            self.register(bank)

    def register(self, bank: int) -> None:
        """Make a slot for a bank (16 bits), once."""
        if self._slots[bank] < 0:
            self._slots[bank] = len(self.bank_ids)
            self.bank_ids.append(bank)
            self._totals = np.append(self._totals, np.uint64(0))

    @property
    def totals(self) -> npt.NDArray[np.uint64]:
        """Events of each slot so far, shape (slots,)."""
        return self._totals.copy()

    def block(self, words: Words, found: Scan, stream_offset: int) -> EventBlock:
        """The events of all event packets in ``found``. Raises :class:`BadPacket` with the offset in the stream."""
        slots = len(self.bank_ids)
        counts = np.zeros(slots, np.int64)
        monitor_counts = np.zeros(_MONITORS, np.int64)
        pulses, undefined, duplicates, problem, where = _measure(
            words, found.at, found.base, self._slots, counts, monitor_counts
        )
        if problem:
            raise BadPacket(offset=stream_offset + 4 * where, detail=_REASONS[problem])
        self._note_monitors(monitor_counts)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        monitors = monitor_counts[self._monitor_ids] if self._monitor_ids else np.zeros(0, np.int64)
        monitor_starts = np.concatenate([[0], np.cumsum(monitors)]).astype(np.int64)
        pulse_id, pulse = np.empty(pulses, np.uint64), np.empty((5, pulses), np.uint32)
        fresh = self._scratch.array
        tof, pixel = fresh("tof", int(starts[-1]), np.float32), fresh("pixel", int(starts[-1]), np.uint32)
        index = fresh("index", (slots, pulses), np.uint64)
        monitor_tof = fresh("monitor tof", int(monitor_starts[-1]), np.float32)
        monitor_index = fresh("monitor index", (len(monitors), pulses), np.uint64)
        _fill(
            words, found.at, found.base, self._slots, self._monitor_slots, pulse_id, pulse, tof, pixel, starts[:-1].copy(),
            index, self._totals, monitor_tof, monitor_starts[:-1].copy(), monitor_index, self._monitor_totals,
        )  # fmt: skip
        return EventBlock(
            pulse_id, pulse[0], pulse[1], pulse[2], pulse[3], pulse[4], tof, pixel, starts, index, undefined, duplicates,
            tuple(self._monitor_ids), monitor_tof, monitor_starts, monitor_index,
        )  # fmt: skip

    def _note_monitors(self, counts: npt.NDArray[np.int64]) -> None:
        """Give a slot to each beam monitor that has events for the first time."""
        for monitor in np.flatnonzero(counts):
            if self._monitor_slots[monitor] < 0:
                self._monitor_slots[monitor] = len(self._monitor_ids)
                self._monitor_ids.append(int(monitor))
                self._monitor_totals = np.append(self._monitor_totals, np.uint64(0))


@njit(cache=True, nogil=True)
def _scan(words: Any, at: Any, base: Any) -> Any:
    position = np.int64(0)
    count = 0
    size = len(words)
    while position + _HEADER_WORDS <= size:
        length = np.int64(words[position])
        if length % 4 != 0:
            return count, position, 1
        if length + HEADER_BYTES > MAX_PACKET_BYTES:
            return count, position, 2
        if words[position + 3] >= 1_000_000_000:
            return count, position, 3
        end = position + _HEADER_WORDS + length // 4
        if end > size:
            break
        at[count] = position
        base[count] = words[position + 1] >> 8
        count += 1
        position = end
    return count, position, 0


@njit(cache=True, nogil=True)
def _last_pulse(words: Any, at: Any, base: Any) -> Any:
    found = -1
    seconds = np.uint32(0)
    nanoseconds = np.uint32(0)
    for i in range(len(at) - 1, -1, -1):
        kind = base[i]
        if kind == _BANKED or kind == _MONITOR or kind == _STATE:
            if found >= 0 and (words[at[i] + 2] != seconds or words[at[i] + 3] != nanoseconds):
                return found
            seconds = words[at[i] + 2]
            nanoseconds = words[at[i] + 3]
            found = i
    return found


@njit(cache=True, nogil=True)
def _slot(slots: Any, bank: Any) -> Any:
    if bank < _ID_LIMIT:
        return slots[bank]
    if bank == BANK_UNMAPPED:
        return _SLOT_UNMAPPED
    if bank == BANK_ERROR:
        return _SLOT_ERROR
    return -1


@njit(cache=True, nogil=True)
def _measure(words: Any, at: Any, base: Any, slots: Any, counts: Any, monitor_counts: Any) -> Any:
    """Check every section against its payload; count pulses, and events by slot."""
    pulses = 0
    undefined = np.int64(0)
    duplicates = 0
    previous = np.uint64(0)
    seen_banked = False
    seen_monitor = False
    for i in range(len(at)):
        kind = base[i]
        if kind != _BANKED and kind != _MONITOR and kind != _STATE:
            continue
        start = at[i]
        end = start + _HEADER_WORDS + words[start] // 4
        w = start + _HEADER_WORDS
        if w + 4 > end:
            return 0, 0, 0, 5, start
        if words[w + 3] & DUPLICATE_PULSE:
            duplicates += 1
            continue
        pulse = (np.uint64(words[start + 2]) << np.uint64(32)) | np.uint64(words[start + 3])
        repeated = seen_monitor if kind == _MONITOR else seen_banked
        if pulses == 0 or pulse != previous or repeated:
            pulses += 1
            previous = pulse
            seen_banked = False
            seen_monitor = False
        if kind == _MONITOR:
            seen_monitor = True
        else:
            seen_banked = True
        w += 4
        if kind == _MONITOR:
            while w < end:
                if w + 3 > end:
                    return 0, 0, 0, 4, start
                monitor = words[w] >> 22
                count = np.int64(words[w] & 0x3FFFFF)
                w += 3 + count
                if w > end:
                    return 0, 0, 0, 4, start
                monitor_counts[monitor] += count
            continue
        head = 3 if kind == _STATE else 2
        while w < end:
            if w + 4 > end:
                return 0, 0, 0, 4, start
            banks = np.int64(words[w + 3])
            w += 4
            for _ in range(banks):
                if w + head > end:
                    return 0, 0, 0, 4, start
                count = np.int64(words[w + head - 1])
                slot = _slot(slots, words[w])
                w += head + 2 * count
                if w > end:
                    return 0, 0, 0, 4, start
                if slot < 0:
                    undefined += count
                else:
                    counts[slot] += count
    return pulses, undefined, duplicates, 0, 0


@njit(cache=True, nogil=True)
def _put_events(events: Any, tof: Any, pixel: Any) -> None:
    for j in range(len(tof)):
        tof[j] = np.float32(events[2 * j] / 10.0)
        pixel[j] = events[2 * j + 1]


@njit(cache=True, nogil=True)
def _put_monitor_events(events: Any, tof: Any) -> None:
    for j in range(len(tof)):
        tof[j] = np.float32((events[j] & MONITOR_TOF_MASK) / 10.0)


@njit(cache=True, nogil=True)
def _put_index(index: Any, pulse: Any, tile: Any, count: Any) -> None:
    """Write the totals of some pulses, one after the other in ``tile``, into the rows of the index."""
    slots = np.uint64(index.shape[0])
    first = np.uint64(pulse)
    for s in range(slots):
        for q in range(np.uint64(count)):
            index[s, first + q] = tile[q, s]


@njit(cache=True, nogil=True)
def _fill(
    words: Any, at: Any, base: Any, slots: Any, monitor_slots: Any, pulse_ids: Any, pulse: Any, tof: Any, pixel: Any,
    into: Any, index: Any, totals: Any, monitor_tof: Any, monitor_into: Any, monitor_index: Any, monitor_totals: Any,
) -> None:  # fmt: skip
    """Second walk over what ``_measure`` has checked: fill the columns.

    Large sections are copied from slice to slice: the indexes of such loops cannot be negative, without which the compiler
    uses no vector instructions; for small ones making the slices would cost more than it gains.
    """
    p = -1
    tiled = 0
    tile = np.empty((_TILE, len(totals)), np.uint64)
    previous = np.uint64(0)
    seen_banked = False
    seen_monitor = False
    for i in range(len(at)):
        kind = base[i]
        if kind != _BANKED and kind != _MONITOR and kind != _STATE:
            continue
        start = at[i]
        end = start + _HEADER_WORDS + words[start] // 4
        w = start + _HEADER_WORDS
        flags = words[w + 3]
        if flags & DUPLICATE_PULSE:
            continue
        pulse_id = (np.uint64(words[start + 2]) << np.uint64(32)) | np.uint64(words[start + 3])
        repeated = seen_monitor if kind == _MONITOR else seen_banked
        if p < 0 or pulse_id != previous or repeated:
            p += 1
            previous = pulse_id
            seen_banked = False
            seen_monitor = False
            pulse_ids[p] = pulse_id
            if p >= tiled + _TILE:
                _put_index(index, tiled, tile, _TILE)
                tiled = p
            for s in range(len(totals)):
                tile[p - tiled, s] = totals[s]
            for m in range(len(monitor_totals)):
                monitor_index[m, p] = monitor_totals[m]
        if kind == _MONITOR:
            seen_monitor = True
        else:
            seen_banked = True
        if kind != _MONITOR or not seen_banked:
            pulse[0, p] = words[w]
            pulse[1, p] = words[w + 1]
            pulse[2, p] = words[w + 2]
            pulse[3, p] = flags & FLAGS_MASK
            # Version 0 has no veto flags.
            pulse[4, p] = flags >> 20 if words[start + 1] & 0xFF or kind == _STATE else np.uint32(0)
        w += 4
        if kind == _MONITOR:
            while w < end:
                m = monitor_slots[words[w] >> 22]
                count = np.int64(words[w] & 0x3FFFFF)
                w += 3
                if count > 0:
                    k = monitor_into[m]
                    if count < _MANY:
                        for j in range(count):
                            monitor_tof[k + j] = np.float32((words[w + j] & MONITOR_TOF_MASK) / 10.0)
                    else:
                        _put_monitor_events(words[w : w + count], monitor_tof[k : k + count])
                    monitor_into[m] = k + count
                    monitor_totals[m] += np.uint64(count)
                w += count
            continue
        head = 3 if kind == _STATE else 2
        while w < end:
            banks = np.int64(words[w + 3])
            w += 4
            for _ in range(banks):
                count = np.int64(words[w + head - 1])
                slot = _slot(slots, words[w])
                w += head
                if slot >= 0 and count > 0:
                    k = into[slot]
                    if count < _MANY:
                        for j in range(count):
                            tof[k + j] = np.float32(words[w + 2 * j] / 10.0)
                            pixel[k + j] = words[w + 2 * j + 1]
                    else:
                        _put_events(words[w : w + 2 * count], tof[k : k + count], pixel[k : k + count])
                    into[slot] = k + count
                    totals[slot] += np.uint64(count)
                w += 2 * count
    _put_index(index, tiled, tile, p + 1 - tiled)
