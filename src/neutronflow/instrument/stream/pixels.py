"""The pixel map of the beamline: from physical to logical pixels and banks.

The file has lines ``physical logical bank``, each of the first two a number or ``start:stop:step`` (both ends included),
``#`` begins a comment, and bank -1 leaves pixels unmapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.packets import MapSection, PixelMapping
from neutronflow.domain.adara.pixelmap import bank_pixels
from neutronflow.instrument.stream.errors import BadPixelMap, BeamlineFileMissing

#: Physical pixel ids have 28 bits; a table over them is held only up to here.
MAX_PHYSICAL = 1 << 24
#: Bank ids have 16 bits, of which this one says that pixels are unmapped.
UNMAPPED = 0xFFFF
_MAX_SECTION = 0x7FFF


@dataclass(frozen=True, slots=True)
class PixelMap:
    """``logical`` (u4) and ``bank`` (u2; :data:`UNMAPPED` where there is none) have shape (largest physical id + 1,)."""

    logical: npt.NDArray[np.uint32]
    bank: npt.NDArray[np.uint16]
    packet: PixelMapping


def read_pixel_map(path: Path) -> PixelMap:
    """Read the file. Raises :class:`BadPixelMap` with the line, or :class:`BeamlineFileMissing`."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BeamlineFileMissing(what="a pixel map", path=path, detail=error) from error
    sections: list[MapSection] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            sections += _sections(words)
        except ValueError as error:
            raise BadPixelMap(path=path, line=number, detail=error) from error
    banks = {section.head[1] >> 16 for section in sections}
    packet = PixelMapping(tuple(sections), alternative=True, version=1, bank_count=len(banks))
    try:
        return map_of(packet)
    except ValueError as error:
        raise BadPixelMap(path=path, line="-", detail=error) from error


def map_of(packet: PixelMapping) -> PixelMap:
    """The tables of a map as it is sent. Raises ValueError where a physical pixel is mapped twice, or none is."""
    pixels = bank_pixels(packet)
    if not pixels:
        raise ValueError("no pixel is mapped")
    size = max(int(physical.max()) for _, physical in pixels.values()) + 1
    if size > MAX_PHYSICAL:
        raise ValueError(f"physical pixel {size - 1} is larger than {MAX_PHYSICAL - 1}")
    logical_of, bank_of = np.zeros(size, np.uint32), np.full(size, UNMAPPED, np.uint16)
    for bank, (logical, physical) in pixels.items():
        taken = physical[bank_of[physical] != UNMAPPED]
        if len(taken) or len(np.unique(physical)) != len(physical):
            twice = int(taken[0]) if len(taken) else "one"
            raise ValueError(f"physical pixel {twice} of bank {bank} is mapped twice")
        logical_of[physical], bank_of[physical] = logical, bank
    return PixelMap(logical_of, bank_of, packet)


def _sections(words: list[str]) -> list[MapSection]:
    if len(words) != 3:
        raise ValueError(f"there are {len(words)} words instead of physical, logical and bank")
    physical, logical, bank = _range(words[0]), _range(words[1]), int(words[2])
    if len(physical) != len(logical):
        raise ValueError(f"{len(physical)} physical pixels cannot be {len(logical)} logical ones")
    if not -1 <= bank < UNMAPPED:
        raise ValueError(f"there is no bank {bank}")
    return [
        _section(physical[at : at + _MAX_SECTION], logical[at : at + _MAX_SECTION], bank & 0xFFFF)
        for at in range(0, len(physical), _MAX_SECTION)
    ]


def _section(physical: range, logical: range, bank: int) -> MapSection:
    if len(physical) == 1:
        return MapSection((physical[0], (bank << 16) | 1), np.array([logical[0]], np.uint32))
    steps = ((physical.step & 0xFFFF) << 16) | (logical.step & 0xFFFF)
    values = np.array([physical[-1], logical[0], steps, logical[-1]], np.uint32)
    return MapSection((physical[0], (bank << 16) | 0x8000 | len(physical)), values)


def _range(word: str) -> range:
    parts = [int(part) for part in word.split(":")]
    if len(parts) > 3:
        raise ValueError(f"{word!r} is neither a number nor start:stop:step")
    start, stop = parts[0], parts[1] if len(parts) > 1 else parts[0]
    step = parts[2] if len(parts) > 2 else (1 if stop >= start else -1)
    if step == 0 or (stop - start) % step or (stop - start) // step < 0 or not -0x8000 <= step < 0x8000:
        raise ValueError(f"{word!r} has no whole number of steps")
    found = range(start, stop + (1 if step > 0 else -1), step)
    if min(found[0], found[-1]) < 0 or max(found[0], found[-1]) >= 1 << 28:
        raise ValueError(f"{word!r} goes beyond 28 bits")
    return found
