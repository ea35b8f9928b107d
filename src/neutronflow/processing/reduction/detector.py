"""Counts per pixel as an image: tubes side by side, where the pixel map shows tubes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipp as sc
from numpy.typing import NDArray

#: Pixel ids from here on belong to no detector that we know; their events are counted, not drawn.
MAX_PIXELS = 1 << 23


class PixelCounts:
    """Events per pixel id, added up piece by piece."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)
        #: Events with pixel ids beyond :data:`MAX_PIXELS`.
        self.outside = 0

    def add(self, pixel_ids: NDArray[np.uint32]) -> None:
        """Count events by their pixel ids."""
        inside = pixel_ids[pixel_ids < MAX_PIXELS]
        self.outside += pixel_ids.size - inside.size
        counted = np.bincount(inside, minlength=self.counts.size)
        counted[: self.counts.size] += self.counts
        self.counts = counted

    def of(self, pixel_ids: NDArray[np.uint32]) -> NDArray[np.int64]:
        """The counts of these pixels, in the shape of ``pixel_ids``; 0 where none was seen."""
        known = pixel_ids < self.counts.size
        values = np.zeros(pixel_ids.shape, np.int64)
        values[known] = self.counts[pixel_ids[known]]
        return values


def tube_length(pixel_ids: NDArray[np.uint32]) -> int | None:
    """How many pixels a tube has, seen from a bank's pixel map: where the ids stop to run on. ``None`` if they never do."""
    steps = np.diff(pixel_ids.astype(np.int64))
    ends = np.flatnonzero(np.abs(steps) != 1) + 1
    if ends.size == 0:
        return None
    length = int(ends[0])
    regular = pixel_ids.size % length == 0 and np.array_equal(ends, np.arange(length, pixel_ids.size, length))
    return length if regular and length > 1 else None


def detector_image(banks: Sequence[NDArray[np.uint32]], counts: PixelCounts) -> sc.DataArray:
    """Counts per pixel, in bank order, dims ``('pixel', 'tube')``, unit counts, variances = counts.

    ``banks`` holds each bank's pixel ids in the order of the pixel map. Banks whose map shows no tubes become one column
    each. Shorter columns are padded with zeros.
    """
    columns = [column for ids in banks for column in _columns(ids)]
    if not columns:
        columns = [np.arange(max(counts.counts.size, 1), dtype=np.uint32)]
    values = np.zeros((max(column.size for column in columns), len(columns)), np.float64)
    for number, column in enumerate(columns):
        values[: column.size, number] = counts.of(column)
    return sc.DataArray(
        sc.array(dims=["pixel", "tube"], values=values, variances=values, unit="counts"),
        coords={
            "pixel": sc.arange("pixel", values.shape[0], unit=None),
            "tube": sc.arange("tube", values.shape[1], unit=None),
        },
    )


def coarsened(values: NDArray[np.float64], max_cells: int) -> tuple[NDArray[np.float64], int]:
    """An image of at most ``max_cells`` cells, each the sum of a square block, and the block's edge in cells."""
    block = 1
    while -(-values.shape[0] // block) * -(-values.shape[1] // block) > max_cells:
        block += 1
    if block == 1:
        return values, 1
    padded = np.pad(values, [(0, -size % block) for size in values.shape])
    rows, columns = padded.shape
    return padded.reshape(rows // block, block, columns // block, block).sum(axis=(1, 3)), block


def _columns(pixel_ids: NDArray[np.uint32]) -> list[NDArray[np.uint32]]:
    if pixel_ids.size == 0:
        return []
    length = tube_length(pixel_ids) or pixel_ids.size
    # The map lists tubes as they are wired; seen as a picture, ids run upwards.
    return [np.sort(tube) for tube in pixel_ids.reshape(-1, length)]
