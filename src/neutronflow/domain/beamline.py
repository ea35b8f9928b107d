"""Section ``[beamline]``: which beamline the services of ``instrument`` stand at."""

from __future__ import annotations

import msgspec


class BeamlineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One beamline, as the stream and the messages name it."""

    facility: str = "SNS"
    #: The name of the beam port.
    beamline_id: str = "BL11A"
    #: The instrument's name in paths, messages and pages.
    short_name: str = "PG3"
    long_name: str = "POWGEN"
    target_station: int = 1
    #: Whether it is the simulated one, which ``neutronflow up`` starts; its runs are marked everywhere.
    simulated: bool = True
