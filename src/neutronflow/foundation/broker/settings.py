"""How to reach the broker: section ``[broker]``."""

from __future__ import annotations

import msgspec


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the broker is, and how sessions behave."""

    host: str = "127.0.0.1"
    #: Default: the port table's.
    port: int | None = None
    #: ``embedded`` is the only dialect of this version.
    dialect: str = "embedded"
    #: Heart-beats both ways, in seconds; 0 switches them off.
    heartbeat_s: float = 10.0
    connect_timeout_s: float = 10.0
    #: True where the broker is not ours to start.
    external: bool = False
    #: Users of the embedded broker; each has the secret ``broker-<user>``.
    users: tuple[str, ...] = ("manager", "listener", "agent", "translator", "stream", "dasmon")
    max_frame_bytes: int = 16 * 1024 * 1024
    #: Whether the embedded broker waits for the disk before it confirms.
    fsync: bool = True
    #: How often the embedded broker writes its statistics, in seconds.
    statistics_every_s: float = 5.0
