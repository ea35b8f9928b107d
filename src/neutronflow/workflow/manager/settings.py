"""Section ``[manager]``."""

from __future__ import annotations

import msgspec


class ManagerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the workflow manager works."""

    #: Messages in one transaction, at most.
    batch: int = 500
    heartbeat_s: float = 5.0
    #: How often old deduplication keys and changes are forgotten.
    prune_every_s: float = 600.0
