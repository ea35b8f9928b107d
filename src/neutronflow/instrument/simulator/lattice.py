"""The sample: silicon powder, as its diffraction pattern."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import numpy.typing as npt

#: Lattice constant of silicon, in Å.
SILICON_A: Final = 5.4310
#: Isotropic displacement parameter of silicon at room temperature, in Å².
_B_ISO: Final = 0.47


def silicon_peaks(d_min: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Plane spacings (Å, descending) down to ``d_min`` and their multiplicity times squared structure factor (relative).

    Planes of the same spacing (333 and 511) count together. Both arrays have shape (peaks,).
    """
    most = int(SILICON_A / d_min)
    counts: Counter[int] = Counter()
    span = range(-most, most + 1)
    for h in span:
        for k in span:
            for index in span:
                squares = h * h + k * k + index * index
                if squares:
                    counts[squares] += _structure(h, k, index)
    allowed = sorted(squares for squares, weight in counts.items() if weight and SILICON_A / squares**0.5 >= d_min)
    spacing = SILICON_A / np.sqrt(np.array(allowed, np.float64))
    weight = np.array([counts[squares] for squares in allowed], np.float64)
    return spacing, weight * np.exp(-_B_ISO / (2 * spacing**2))


def _structure(h: int, k: int, index: int) -> int:
    """|F|² of the diamond structure in units of b² times 32: 0 where the planes extinguish each other."""
    odd = (h % 2, k % 2, index % 2)
    if odd == (1, 1, 1):
        return 1
    return 2 if odd == (0, 0, 0) and (h + k + index) % 4 == 0 else 0
