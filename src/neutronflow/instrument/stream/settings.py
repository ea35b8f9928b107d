"""Section ``[stream]``."""

from __future__ import annotations

from pathlib import Path

import msgspec


class MonitorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One beam monitor; its events are passed on as events."""

    id: int
    distance_m: float = 0.0


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stream service works."""

    #: ``host:port`` of the detector sources; default: the port table's.
    detector_sources: tuple[str, ...] = ()
    #: ``host:port`` of the slow-control sources; default: the port table's.
    slow_control_sources: tuple[str, ...] = ()
    #: The instrument definition (XML); default ``<data_dir>/beamline/geometry.xml``.
    geometry: Path | None = None
    #: Lines ``physical logical bank``; default ``<data_dir>/beamline/pixelmap``.
    pixel_map: Path | None = None
    monitors: tuple[MonitorSettings, ...] = (
        MonitorSettings(id=1, distance_m=-2.0),
        MonitorSettings(id=2, distance_m=-0.5),
    )
    translator_host: str = "127.0.0.1"
    #: Where run numbers begin.
    first_run: int = 1
    #: A file of the spool is closed when it has so many bytes.
    file_bytes: int = 200_000_000
    #: A SYNC packet stands in the spool after so many bytes.
    sync_bytes: int = 16 << 20
    #: Beyond so many bytes the oldest part of the spool goes, but never a run that is not translated.
    spool_bytes: int = 1_000_000_000
    #: What was written is on the disk after so long at most.
    disk_sync_s: float = 1.0
    #: A source that is silent for so long is connected to again.
    source_silence_s: float = 9.0
    #: A pulse that is not complete after so long is passed on as it is.
    pulse_wait_s: float = 0.5
    #: So many pulses may be incomplete at a time.
    max_pulses: int = 1000
    #: A live client has to say hello within so long.
    hello_s: float = 30.0
    #: Live clients at a time.
    max_clients: int = 64
    #: Runs sent to the translator at a time.
    max_sent: int = 3
    #: After an answer that says "later", or a broken connection, at most so long.
    send_again_s: float = 60.0
    #: So often a run is sent again after the translator has answered "later"; then by hand.
    max_requeue: int = 5
    heartbeat_s: float = 6.0
