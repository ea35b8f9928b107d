"""A run's time: seconds after its first pulse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(time_ns: int) -> str:
    """A time as NeXus has it here: ISO 8601, UTC, nine digits of a second."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    whole = _EPOCH + timedelta(seconds=seconds)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}+00:00"


@dataclass(frozen=True, slots=True)
class Clock:
    """``start_ns`` is the time of the first pulse, in Unix ns."""

    start_ns: int

    def since_start(self, times_ns: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Which values to keep, shape (values,), and the seconds of those, shape (kept,).

        What is older than the run counts from its beginning (0 s); of several such values only the last one holds.
        """
        late = times_ns >= self.start_ns
        keep = late.copy()
        early = np.flatnonzero(~late)
        if len(early):
            keep[early[-1]] = True
        return keep, np.maximum(times_ns[keep] - self.start_ns, 0) / 1e9

    def seconds(self, time_ns: int) -> float:
        """Seconds after the first pulse, 0 for what was before."""
        return max(0, time_ns - self.start_ns) / 1e9

    def attributes(self, start_name: str = "start") -> Mapping[str, str | np.generic]:
        """The attributes of a ``time`` dataset."""
        seconds, nanoseconds = divmod(self.start_ns, 1_000_000_000)
        return {
            start_name: iso(self.start_ns),
            "offset_seconds": np.uint32((seconds - EPICS_EPOCH_UNIX) & 0xFFFFFFFF),
            "offset_nanoseconds": np.uint32(nanoseconds),
            "units": "second",
        }
