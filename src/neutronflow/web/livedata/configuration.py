"""Section ``[livedata]``."""

from __future__ import annotations

from typing import Annotated

import msgspec


class LivedataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the live data server works."""

    max_upload_mb: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    #: How many versions of a run's plot are kept.
    keep_versions: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    allowed_hosts: tuple[str, ...] = ()
    #: Origins of pages that may fetch plots from a browser.
    cors_origins: tuple[str, ...] = ()
