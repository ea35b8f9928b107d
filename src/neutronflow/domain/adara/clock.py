"""Time stamps as packets have them."""

from __future__ import annotations

import time
from typing import TypeAlias

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX

#: Seconds since the EPICS epoch, and nanoseconds.
Stamp: TypeAlias = tuple[int, int]


def stamp_of(unix_ns: int) -> Stamp:
    """The time stamp of a time in nanoseconds since the Unix epoch."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return seconds - EPICS_EPOCH_UNIX, nanoseconds


def now() -> Stamp:
    """The time stamp of this moment."""
    return stamp_of(time.time_ns())
