"""Section ``[simulator]``."""

from __future__ import annotations

from typing import Annotated

import msgspec

_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the simulated diffractometer measures, and when."""

    #: The same seed gives the same events to the same pulse.
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 1
    #: Detector events a second, on average.
    events_per_s: Annotated[float, msgspec.Meta(ge=0.0, le=5e6)] = 50_000.0
    #: Events a second of each of the two beam monitors, on average.
    monitor_events_per_s: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)] = 300.0
    #: Which share of the detector events is incoherent scattering, spread over all pixels and wavelengths.
    background: _Share = 0.15
    #: Mean proton charge of a pulse, in 10 pC, and the relative spread of it.
    charge_10pc: Annotated[int, msgspec.Meta(gt=0, lt=2**23)] = 1_847_000
    charge_spread: Annotated[float, msgspec.Meta(ge=0.0, le=0.2)] = 0.01
    #: A client that leaves so many bytes unread is dropped.
    client_buffer_bytes: Annotated[int, msgspec.Meta(gt=0)] = 16_000_000
    #: How often temperatures and the like are read.
    variables_every_s: _Positive = 1.0
    #: Without anything else to send, slow controls say so often that they are there.
    heartbeat_s: _Positive = 2.0
    #: Whether runs are taken; otherwise there is beam, and somebody else starts and stops runs.
    take_runs: bool = True
    #: The experiment to which the runs belong; a placeholder.
    experiment: str = "IPTS-99001"
    #: So many runs at the beginning, one right after the other, each so long.
    first_runs: Annotated[int, msgspec.Meta(ge=0)] = 3
    first_run_s: _Positive = 20.0
    #: Thereafter one run begins every so often, and is so long.
    every_s: _Positive = 600.0
    run_s: _Positive = 120.0
    #: Runs in all; 0: without end.
    runs: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Run control of the stream service; empty: on this machine, by the port table.
    run_control_url: str = ""
    #: The record of what was drawn reaches so far back.
    record_minutes: Annotated[int, msgspec.Meta(gt=0)] = 240
    #: Raw and reduced files of this instrument, and the record, are kept up to so many bytes; of more the oldest go.
    keep_bytes: Annotated[float, msgspec.Meta(ge=0.0)] = 4e9
