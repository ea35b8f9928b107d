"""Section ``[monitor]``."""

from __future__ import annotations

import msgspec


class MonitorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the monitor works, and where it finds the services that pages are put together from."""

    #: Further host names under which it answers.
    allowed_hosts: tuple[str, ...] = ()
    #: Where people reach it; default: this machine's address and port.
    base_url: str = ""
    #: True where people reach it through TLS: cookies are sent over TLS only, and browsers are told so (HSTS).
    behind_tls: bool = False
    session_days: float = 14.0
    #: So many wrong passwords within five minutes make a name wait.
    login_failures: int = 10
    login_link_minutes: float = 60.0
    #: Default: the live data server and the catalog of this machine.
    livedata_url: str = ""
    catalog_url: str = ""
    #: No page waits longer than this for another service.
    patience_s: float = 2.0
    page_size: int = 50
