"""Files recorded from the facility's own programs (tests/data)."""

from __future__ import annotations

from pathlib import Path

#: Run 1001 of HYS, 171,200 events in 20 banks, as the real translator wrote it.
SMALL_RUN = Path(__file__).parents[1] / "data" / "adara" / "small_run1001.nxs.h5"
