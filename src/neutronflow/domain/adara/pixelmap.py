"""Pixel maps: which logical and physical pixels a bank has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.packets import PixelMapping

Pixels = npt.NDArray[np.uint32]

_UNMAPPED = 0xFFFF


def bank_pixels(mapping: PixelMapping) -> dict[int, tuple[Pixels, Pixels]]:
    """Bank -> (logical, physical) pixel ids, each of shape (pixels,), in the order of the map.

    Sections that contradict themselves (a shorthand whose two sequences differ in length) are left out, as the reference
    does; so are those of unmapped pixels.
    """
    parts: dict[int, list[tuple[Pixels, Pixels]]] = {}
    for section in mapping.sections:
        base, head = section.head
        bank = head >> 16
        if bank == _UNMAPPED:
            continue
        if mapping.alternative and mapping.version > 0 and head & 0x8000:
            pair = _shorthand(base, head & 0x7FFF, section.values)
        else:
            counted = (base + np.arange(len(section.values), dtype=np.uint64)).astype(np.uint32)
            pair = (section.values.copy(), counted) if mapping.alternative else (counted, section.values.copy())
        if pair is not None:
            parts.setdefault(bank, []).append(pair)
    return {
        bank: (np.concatenate([one for one, _ in pairs]), np.concatenate([one for _, one in pairs]))
        for bank, pairs in parts.items()
    }


def _shorthand(start: int, count: int, values: Pixels) -> tuple[Pixels, Pixels] | None:
    """``start`` and {stop physical, start logical, steps, stop logical}; both ends are included."""
    stop, logical_start, steps, logical_stop = (int(value) for value in values)
    physical = _sequence(start, stop, steps >> 16, count)
    logical = _sequence(logical_start, logical_stop, steps & 0xFFFF, count)
    return None if physical is None or logical is None else (logical, physical)


def _sequence(start: int, stop: int, step: int, count: int) -> Pixels | None:
    step = step - 0x10000 if step & 0x8000 else step
    if step == 0 or (stop - start) % step or (stop - start) // step + 1 != count:
        return None
    return (start + step * np.arange(count, dtype=np.int64)).astype(np.uint32)
