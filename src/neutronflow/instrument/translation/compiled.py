"""The compiled code of the hot path: where it is kept, and how it is loaded before the first run comes."""

from __future__ import annotations

import os
from pathlib import Path


def use_cache(data_dir: Path) -> None:
    """Keep compiled code in the data directory. To be called before anything imports numba."""
    folder = data_dir / "cache" / "numba"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


def warm() -> None:
    """Compile, or load from the cache, what the hot path calls."""
    import numpy as np

    from neutronflow.domain.adara.events import Demultiplexer, last_pulse, scan
    from neutronflow.domain.adara.scalars import scalars

    nothing = np.empty(0, np.uint32)
    found = scan(nothing, 0)
    last_pulse(nothing, found)
    scalars(nothing, found, 0)
    Demultiplexer().block(nothing, found, 0)
