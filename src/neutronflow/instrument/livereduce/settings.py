"""Section ``[livereduce]``."""

from __future__ import annotations

import msgspec


class LivereduceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How live pictures are made."""

    host: str = "127.0.0.1"
    #: Default: the port table's.
    port: int | None = None
    #: Default: the live data server on this machine.
    livedata_url: str = ""
    #: A picture is published so often.
    publish_every_s: float = 2.0
    #: The TOF histogram goes so far, in so many bins.
    tof_max_us: float = 33_333.0
    tof_bins: int = 500
