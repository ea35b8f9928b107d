"""The words of the workflow: steps and states. Database, pages and machine use these and no others."""

from __future__ import annotations

import enum


class StepName(enum.StrEnum):
    """What is done with a run, in the order of the default pipeline."""

    CATALOG_RAW = "catalog_raw"
    REDUCE = "reduce"
    CATALOG_REDUCED = "catalog_reduced"


class StepState(enum.StrEnum):
    """Where one attempt of a step stands."""

    #: It waits for another step to end.
    WAITING = "waiting"
    #: Its command is on its way to the agents.
    QUEUED = "queued"
    #: An agent works on it.
    STARTED = "started"
    #: It has ended well.
    COMPLETE = "complete"
    #: It has ended badly; ``error`` says why.
    FAILED = "failed"
    #: The instrument has no reduction script; nothing was to be done.
    DISABLED = "disabled"
    #: Someone has said that this run needs no reduction.
    NOT_NEEDED = "not_needed"
    #: It will not be tried, because a step it needs did not end well, or was disabled.
    SKIPPED = "skipped"


class RunState(enum.StrEnum):
    """Where a run stands: as the beamline says before its first cycle, then by the current attempts of its steps."""

    #: Events are being taken.
    ACQUIRING = "acquiring"
    #: No more events come; the run's file is being finished.
    TRANSLATING = "translating"
    #: Steps are under way.
    PROCESSING = "processing"
    #: Every step has ended well, or was not to be done.
    COMPLETE = "complete"
    #: A step's current attempt has failed.
    FAILED = "failed"
