"""Translation of an event stream to a NeXus file: parsed, sorted and written, up to the closed file.

The streams are those of ``adara_parse`` with a run around them: large has pulses of 100,000 events in 20 banks, tiny is one
hour at 60 Hz with 20 events over 200 banks in each pulse. They come from memory, in pieces as from a socket. Beside it the
raw limit, measured in turn with it: as many bytes as the file has, written by a plain loop.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adara_parse import BEGIN, Words, large_stream, tiny_stream
from neutronflow.domain.adara.packets import (
    BeamlineInfo,
    DeviceDescriptor,
    Empty,
    MapSection,
    PixelMapping,
    RunInfo,
    RunStatus,
    RunStatusCode,
    encode,
)
from neutronflow.instrument.translation.assembler import Assembler
from neutronflow.stack.benchnames import unit_of

ROUNDS = 5
PIECE_BYTES = 1 << 20
_RUN = 1
_PIXELS = 1024


def _prologue(banks: int) -> bytes:
    """What a stream says before its pulses: whose run it is, its banks, and the chopper that reports with each pulse."""
    sections = [
        MapSection((bank * _PIXELS, (bank << 16) | _PIXELS), np.arange(_PIXELS, dtype=np.uint32) + bank * _PIXELS)
        for bank in range(1, banks + 1)
    ]
    chopper = (
        "<device><device_name>chopper0</device_name><process_variables><process_variable><pv_name>chopper0_TDC</pv_name>"
        "<pv_id>1</pv_id><pv_type>unsigned</pv_type></process_variable></process_variables></device>"
    )
    info = "<runinfo><facility_name>SNS</facility_name><proposal_id>IPTS-1</proposal_id></runinfo>"
    said = (
        RunStatus(_RUN, BEGIN, RunStatusCode.NEW_RUN, 0x001001),
        DeviceDescriptor(0x80000000, chopper),
        BeamlineInfo("BL14B", "HYS", "HYSPEC"),
        RunInfo(info),
        PixelMapping(tuple(sections), alternative=True, bank_count=banks),
    )
    return b"".join(encode(one, BEGIN, 0) for one in said)


def translate(words: Words, banks: int, path: Path) -> int:
    """Translate a stream of pulses; gives back how many events there were."""
    ended = RunStatus(_RUN, BEGIN, RunStatusCode.END_RUN, 0x001001)
    assembler = Assembler(path)
    assembler.feed(_prologue(banks))
    pulses = memoryview(words).cast("B")
    for at in range(0, len(pulses), PIECE_BYTES):
        assembler.feed(pulses[at : at + PIECE_BYTES])
    assembler.feed(encode(ended, BEGIN + 100_000, 0) + encode(Empty(data_done=True), 0, 0))
    return assembler.finish().events


def write(size: int, path: Path) -> None:
    """Write so many bytes, as plainly as can be."""
    piece = bytes(PIECE_BYTES)
    with path.open("wb", buffering=0) as file:
        for at in range(0, size, PIECE_BYTES):
            file.write(piece[: size - at])


def _seconds(work: Callable[[], object], path: Path) -> float:
    path.unlink(missing_ok=True)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _result(name: str, words: Words, banks: int) -> Mapping[str, Any]:
    ours, raw = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nxs.h5"
        events = translate(words, banks, path)  # compiles, too
        size = path.stat().st_size
        for _ in range(ROUNDS):
            ours.append(_seconds(lambda: translate(words, banks, path), path))
            raw.append(_seconds(lambda: write(size, path), path))
    seconds, limit = statistics.median(ours), statistics.median(raw)
    return {
        "name": name,
        "value": events / seconds / 1e6,
        "unit": unit_of(name),
        "higher_is_better": True,
        "duration_s": seconds,
        "n": events,
        "reference": {"name": "raw-write", "value": events / limit / 1e6},
        "ratio": limit / seconds,
    }


def large() -> Mapping[str, Any]:
    """The benchmark ``translation.large``."""
    return _result("translation.large", large_stream(), 20)


def tiny() -> Mapping[str, Any]:
    """The benchmark ``translation.tiny``."""
    return _result("translation.tiny", tiny_stream(), 200)


BENCHMARKS = {"translation.large": large, "translation.tiny": tiny}
