"""Section ``[translator]``."""

from __future__ import annotations

import msgspec


class TranslatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the translator works."""

    #: Runs translated at a time; further connections wait.
    max_runs: int = 8
    #: A sender that is silent for so long is given up.
    idle_timeout_s: float = 300.0
    heartbeat_s: float = 5.0
    #: Failed translations kept for inspection, below the archive's ``.translating``; of more, the oldest go.
    keep_failed: int = 20
