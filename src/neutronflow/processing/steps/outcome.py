"""What a step needs to know, and what it leaves behind."""

from __future__ import annotations

import enum

import msgspec

from neutronflow.domain.facility import RunKey
from neutronflow.domain.messages.report import OutputFile
from neutronflow.domain.workflow.states import StepName
from neutronflow.foundation.errors import NeutronflowError


class StepFailed(NeutronflowError):
    """{detail}"""

    code = "step-failed"


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One command, checked: names are safe as parts of paths, the data file lies in the archive and can be read."""

    step: StepName
    run: RunKey
    experiment: str
    #: As received: the full path, not resolved.
    data_file: str


class Ending(enum.StrEnum):
    """How a step has ended."""

    COMPLETE = "complete"
    ERROR = "error"
    DISABLED = "disabled"


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step has done. ``error`` is a sentence for people, without a prefix."""

    ending: Ending
    error: str = ""
    log: str = ""
    exit_code: int | None = None
    files: tuple[OutputFile, ...] = ()
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
