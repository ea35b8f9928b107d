"""Parsing of an event stream: every packet found, every event sorted into its bank's columns, every variable's value read.

The streams are those of the stream service as recorded from life, made in memory: large has pulses of 100,000 events in 20
banks, tiny is one hour at 60 Hz with 20 events over 200 banks in each pulse, whose packets are what costs. They are handed
over in pieces of the size in which the translator works. Beside it the raw limit, measured in turn with it: the same pieces
copied to one place (large), and a bare walk from header to header (tiny).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from neutronflow.domain.adara.events import Demultiplexer, Scan, Scratch, last_pulse, scan
from neutronflow.domain.adara.scalars import scalars
from neutronflow.stack.benchnames import unit_of

Words = npt.NDArray[np.uint32]

PIECE_WORDS = 1 << 20
ROUNDS = 7
#: EPICS seconds at which the streams begin.
BEGIN = 1164241405
_RTDL_WORDS, _MONITOR_EVENTS = 34, 1486


def _pulses(count: int, words_each: int) -> Words:
    return np.zeros((count, words_each), np.uint32)


def _put_header(pulses: Words, at: int, form: int, payload_words: int) -> int:
    """The header of one packet in every pulse, with the pulse's time; gives back where the payload begins."""
    numbers = np.arange(len(pulses))
    pulses[:, at] = 4 * payload_words
    pulses[:, at + 1] = form
    pulses[:, at + 2] = BEGIN + numbers // 60
    pulses[:, at + 3] = numbers % 60 * 16_666_667
    return at + 4


def _put_pulse(pulses: Words, at: int) -> int:
    """Charge, energy, cycle and flags of every pulse."""
    pulses[:, at], pulses[:, at + 1], pulses[:, at + 3] = 1_847_000, 937_987_556, 0x300
    pulses[:, at + 2] = np.arange(len(pulses)) % 600
    return at + 4


def _put_rtdl(pulses: Words, at: int) -> int:
    at = _put_header(pulses, at, 0x101, 30)
    pulses[:, at + 4] = (4 << 24) | 964_728
    return at + 30


def _put_monitor(pulses: Words, at: int, events: int) -> int:
    at = _put_pulse(pulses, _put_header(pulses, at, 0x400101, 7 + events))
    pulses[:, at] = (1 << 22) | events
    pulses[:, at + 3 : at + 3 + events] = 123_456
    return at + 3 + events


def _put_banked(pulses: Words, at: int, banks: npt.NDArray[np.integer[Any]], events: int) -> int:
    """A banked event packet: ``banks`` (pulses, banks) in ascending order, so many ``events`` in each of them."""
    rng = np.random.default_rng(1)
    count = banks.shape[1]
    at = _put_pulse(pulses, _put_header(pulses, at, 0x400001, 8 + count * (2 + 2 * events)))
    pulses[:, at + 1], pulses[:, at + 3] = 166_662, count
    at += 4
    for bank in banks.T:
        pulses[:, at], pulses[:, at + 1] = bank, events
        section = pulses[:, at + 2 : at + 2 + 2 * events]
        section[:, 0::2] = rng.integers(100_000, 150_000, (1, events), np.uint32) + np.arange(len(pulses))[:, None] % 60
        section[:, 1::2] = rng.integers(0, 1024, (1, events), np.uint32) + bank[:, None] * 1024
        at += 2 + 2 * events
    return at


def large_stream() -> Words:
    """0.5 GB: 650 pulses of 100,000 events in 20 banks, and their RTDL and beam monitor packets."""
    pulses = _pulses(650, _RTDL_WORDS + 11 + _MONITOR_EVENTS + 12 + 20 * 10_002)
    at = _put_monitor(pulses, _put_rtdl(pulses, 0), _MONITOR_EVENTS)
    banks = np.broadcast_to(np.arange(1, 21), (len(pulses), 20))
    return _flat(pulses, _put_banked(pulses, at, banks, 5000))


def tiny_stream() -> Words:
    """128 MB: 218,580 pulses of 20 events over 200 banks, of four packets each, the last a chopper's time."""
    pulses = _pulses(218_580, _RTDL_WORDS + 12 + 12 + 20 * 4 + 8)
    at = _put_monitor(pulses, _put_rtdl(pulses, 0), 1)
    banks = 1 + 10 * np.arange(20) + np.random.default_rng(2).integers(0, 10, (len(pulses), 20))
    at = _put_header(pulses, _put_banked(pulses, at, banks, 1), 0x800100, 4)
    pulses[:, at], pulses[:, at + 1], pulses[:, at + 3] = 0x80000000, 1, 123_456
    return _flat(pulses, at + 4)


def _flat(pulses: Words, used: int) -> Words:
    if used != pulses.shape[1]:
        raise RuntimeError(f"a pulse was made of {used} words, not {pulses.shape[1]}")
    return pulses.reshape(-1)


def parse(words: Words) -> tuple[int, int]:
    """Parse a stream as the translator does, piece by piece; gives back how many packets and events there were."""
    sorter, scratch = Demultiplexer(range(1, 201)), Scratch()
    at = packets = 0
    while at < len(words):
        piece = words[at : at + PIECE_WORDS]
        found = scan(piece, 4 * at, scratch)
        if at + len(piece) < len(words):
            whole = last_pulse(piece, found)
            found = Scan(found.at[:whole], found.base[:whole], int(found.at[whole]))
        sorter.block(piece, found, 4 * at)
        scalars(piece, found, 4 * at)
        packets += len(found.at)
        at += found.end
    return packets, int(sorter.totals.sum())


def copy(words: Words) -> None:
    """Copy a stream, piece by piece, to one place."""
    place = np.empty(PIECE_WORDS, np.uint32)
    for at in range(0, len(words), PIECE_WORDS):
        piece = words[at : at + PIECE_WORDS]
        place[: len(piece)] = piece


@njit
def walk(words: Any) -> Any:
    """Go from header to header, and count them."""
    at = packets = 0
    while at + 4 <= len(words):
        at += 4 + words[at] // 4
        packets += 1
    return packets


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _measure(words: Words, events: int, limit: Callable[[Words], object]) -> tuple[int, float, float]:
    """Packets, and median seconds of the parsing and of the raw limit."""
    packets, found = parse(words)  # compiles, too
    if found != events:
        raise RuntimeError(f"{found} events were found, not {events}")
    limit(words)
    ours, raw = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds(lambda: parse(words)))
        raw.append(_seconds(lambda: limit(words)))
    return packets, statistics.median(ours), statistics.median(raw)


def _result(name: str, *, amount: float, seconds: float, limit: str, limit_seconds: float, n: int) -> Mapping[str, Any]:
    return {
        "name": name,
        "value": amount / seconds,
        "unit": unit_of(name),
        "higher_is_better": True,
        "duration_s": seconds,
        "n": n,
        "reference": {"name": limit, "value": amount / limit_seconds},
        "ratio": limit_seconds / seconds,
    }


def large() -> Mapping[str, Any]:
    """The benchmark ``adara-parse.large``."""
    words = large_stream()
    packets, ours, raw = _measure(words, 650 * 100_000, copy)
    amount = words.nbytes / 1e9
    return _result("adara-parse.large", amount=amount, seconds=ours, limit="memcpy", limit_seconds=raw, n=packets)


def tiny() -> Mapping[str, Any]:
    """The benchmark ``adara-parse.tiny``."""
    words = tiny_stream()
    packets, ours, raw = _measure(words, 218_580 * 20, walk)
    amount = packets / 1e6
    return _result("adara-parse.tiny", amount=amount, seconds=ours, limit="header-walk", limit_seconds=raw, n=packets)


BENCHMARKS = {"adara-parse.large": large, "adara-parse.tiny": tiny}
