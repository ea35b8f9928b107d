"""Section ``[catalog]``."""

from __future__ import annotations

import msgspec


class CatalogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the built-in catalog works."""

    allowed_hosts: tuple[str, ...] = ()
    #: Reading a file's metadata may take no longer.
    read_timeout_s: float = 30.0
