"""Section ``[listener]``."""

from __future__ import annotations

import msgspec


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the listener works."""

    #: Job reports in one transaction, at most.
    batch: int = 50
    #: How often all services are asked whether they are there.
    ping_every_s: float = 120.0
    #: How long a job report may wait for its run to become known.
    unknown_run_s: float = 10.0
    #: Open pages are told of a service's unchanged heartbeats this often, at most.
    announce_every_s: float = 5.0
    #: How long earlier values of process variables and count rates are kept.
    history_hours: float = 12.0
    #: How often older ones are forgotten.
    purge_every_s: float = 600.0
