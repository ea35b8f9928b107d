"""The TOF spectrum, and its normalisation by beam monitor and by proton charge."""

from __future__ import annotations

import numpy as np
import scipp as sc
from numpy.typing import NDArray

#: Width of the bins in which events are counted first, in µs.
FINE_BIN_US = 10.0
#: A spectrum has at most so many bins; its bins become wider, by whole factors, until it does.
MAX_BINS = 1000
#: No time of flight is as long as this (10 s, in µs).
_MAX_TOF_US = 1e7


class TofCounts:
    """Events per bin of TOF, added up piece by piece. Bin ``k`` reaches from ``k`` to ``k + 1`` times the bin width."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)

    def add(self, tof_us: NDArray[np.float64]) -> None:
        """Count events by their TOF in µs. Raises :class:`ValueError` for what is none."""
        if tof_us.size == 0:
            return
        # Written so that NaN is refused, too.
        if not (tof_us.min() >= 0.0 and tof_us.max() < _MAX_TOF_US):
            raise ValueError(f"times of flight reach from {tof_us.min():g} to {tof_us.max():g} µs")
        counted = np.bincount((tof_us / FINE_BIN_US).astype(np.int64), minlength=self.counts.size)
        counted[: self.counts.size] += self.counts
        self.counts = counted


def tof_spectrum(fine: TofCounts, bin_us: float | None = None, max_bins: int = MAX_BINS) -> sc.DataArray:
    """Counts over TOF: dim ``tof`` (bin edges in µs), unit counts, variances = counts.

    Reaches over all events. Bins are ``bin_us`` wide, rounded to a multiple of :data:`FINE_BIN_US`, or as narrow as
    ``max_bins`` allows.
    """
    filled = np.flatnonzero(fine.counts)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 1)
    factor = max(1, -(-(last - first) // max_bins), round((bin_us or 0.0) / FINE_BIN_US))
    first -= first % factor
    counts = np.zeros(-(-(last - first) // factor) * factor, np.float64)
    counts[: last - first] = fine.counts[first:last] if filled.size else 0
    binned = counts.reshape(-1, factor).sum(axis=1)
    edges = (first + factor * np.arange(binned.size + 1)) * FINE_BIN_US
    return sc.DataArray(
        sc.array(dims=["tof"], values=binned, variances=binned, unit="counts"),
        coords={"tof": sc.array(dims=["tof"], values=edges, unit="us")},
    )


def per_monitor(spectrum: sc.DataArray, monitor_counts: int) -> sc.DataArray | None:
    """The spectrum by counts of a beam monitor, dimensionless; ``None`` without monitor counts.

    Variances are the spectrum's. The monitor's own uncertainty shifts all bins alike, so it is no error of single bins; it
    stands in the coordinate ``monitor_relative_error``.
    """
    if monitor_counts <= 0:
        return None
    normalised = spectrum / sc.scalar(float(monitor_counts), unit="counts")
    normalised.coords["monitor_relative_error"] = sc.scalar(monitor_counts**-0.5)
    return normalised


def per_charge(spectrum: sc.DataArray, charge: sc.Variable | None) -> sc.DataArray | None:
    """The spectrum by proton charge, in counts/mC; ``None`` without charge."""
    if charge is None or not charge.value > 0:
        return None
    return spectrum / charge.to(unit="mC")
