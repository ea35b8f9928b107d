"""Section ``[dasmon]``."""

from __future__ import annotations

import msgspec


class DasmonSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How DASMON works."""

    host: str = "127.0.0.1"
    #: Default: the port table's.
    port: int | None = None
    #: Beam and run metrics are told so often, stream metrics more rarely.
    metrics_every_s: float = 4.0
    stream_metrics_every_s: float = 16.0
    #: What is told on change is told again so often, for those who were not there.
    repeat_every_s: float = 60.0
    heartbeat_s: float = 5.0
    #: Process variables that have changed go to the database so often.
    database_every_s: float = 5.0
    #: Rates are means over so many pulses.
    window_pulses: int = 60
    #: A detector event later than this counts as wrong.
    max_tof_us: float = 33_333.0
