"""How states, steps and errors are called and coloured on pages: the one fixed set of badges."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from neutronflow.domain.workflow.states import RunState, StepName, StepState


@dataclass(frozen=True, slots=True)
class Badge:
    """Text, icon and tone (``run``, ``good``, ``bad``, ``warn``, ``wait``, ``idle``) of a state; never colour alone."""

    text: str
    icon: str
    tone: str


UNKNOWN = Badge("unknown", "minus", "idle")

RUN_BADGES: Mapping[str, Badge] = {
    RunState.ACQUIRING: Badge("acquiring", "beam", "run"),
    RunState.TRANSLATING: Badge("translating", "turn", "run"),
    RunState.PROCESSING: Badge("processing", "turn", "run"),
    RunState.COMPLETE: Badge("complete", "check", "good"),
    RunState.FAILED: Badge("failed", "cross", "bad"),
}
STEP_BADGES: Mapping[str, Badge] = {
    StepState.WAITING: Badge("waiting", "pause", "wait"),
    StepState.QUEUED: Badge("queued", "clock", "wait"),
    StepState.STARTED: Badge("running", "turn", "run"),
    StepState.COMPLETE: Badge("complete", "check", "good"),
    StepState.FAILED: Badge("failed", "cross", "bad"),
    StepState.DISABLED: Badge("no script", "minus", "idle"),
    StepState.NOT_NEEDED: Badge("not needed", "minus", "idle"),
    StepState.SKIPPED: Badge("skipped", "skip", "idle"),
}
IDLE = Badge("idle", "minus", "idle")
RECORDING = Badge("recording", "beam", "run")
PAUSED = Badge("paused", "pause", "wait")
NO_CONTACT = Badge("no contact", "cut", "warn")
NO_STREAM = Badge("no stream", "cut", "bad")
SIMULATED = Badge("simulated", "flask", "warn")
FRESH = Badge("alive", "check", "good")
LATE = Badge("late", "clock", "warn")
SILENT = Badge("silent", "cross", "bad")

_LATE_S = 45.0
_SILENT_S = 180.0

#: Levels of signals.
SIGNAL_BADGES: Sequence[Badge] = (
    Badge("trace", "minus", "idle"),
    Badge("debug", "minus", "idle"),
    Badge("information", "minus", "idle"),
    Badge("warning", "alarm", "warn"),
    Badge("error", "alarm", "bad"),
    Badge("fatal", "cross", "bad"),
)
#: EPICS alarm states, in the order of their numbers.
ALARMS: Sequence[str] = (
    "in order", "read", "write", "very high", "high", "very low", "low", "state", "change of state", "communication",
    "timeout", "hardware limit", "calculation", "scan", "link", "soft", "bad subroutine", "undefined", "disabled",
    "simulation", "read access", "write access",
)  # fmt: skip
_ODD_ALARMS: Mapping[int, str] = {0xFFFF: "not reported", 0xFFFE: "disconnected"}
#: Where no severity is told: these states are warnings only.
_MILD = frozenset([4, 6, 8, 15, 18, 19])

#: Step -> (name on pages, what it does while it runs, what one calls it where there is little room).
STEPS: Mapping[str, tuple[str, str, str]] = {
    StepName.CATALOG_RAW: ("Catalog raw data", "cataloging", "catalog"),
    StepName.REDUCE: ("Reduce", "reducing", "reduce"),
    StepName.CATALOG_REDUCED: ("Catalog reduced data", "cataloging", "catalog reduced"),
}
#: The order of steps on pages.
STEP_ORDER = tuple(STEPS)

#: What a state means to a person who waits for it.
STEP_SENTENCES: Mapping[str, str] = {
    StepState.WAITING: "It begins when the step it needs has ended well.",
    StepState.QUEUED: "Its command is on its way to the agents.",
    StepState.DISABLED: "The instrument has no reduction script for this; nothing was to be done.",
    StepState.NOT_NEEDED: "Someone has said that this run needs no reduction.",
    StepState.SKIPPED: "It was not tried, because a step that it needs did not end well.",
}

_HINTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (r"signal 9|SIGKILL|MemoryError|out of memory", "The script probably needed more memory than it may have."),
        (r"time.?limit|timed out after", "The script ran longer than it may. Is it waiting for something?"),
        (r"signal 11|SIGSEGV", "A compiled library crashed. The end of the log says how far the script came."),
        (r"ModuleNotFoundError|ImportError", "The script needs a Python package that its environment does not have."),
        (r"FileNotFoundError|No such file|not found in the archive", "A file that was expected is not there (yet)."),
        (r"PermissionError|Permission denied", "A file or folder cannot be read or written by the agent's account."),
        (r"No space left|Disk quota", "The disk is full. Once there is room again, the step can be repeated."),
        (r"HTTP 40[13]", "The other service refused our credentials; an administrator has to renew them."),
        (
            r"cannot be reached|Connection refused|HTTP 50\d",
            "Another service was away. Repeating the step may be enough.",
        ),
        (r"SyntaxError|IndentationError", "The reduction script itself has a mistake; the log names the line."),
        (r"KeyError|ValueError|TypeError|IndexError|AttributeError", "The script stumbled over the data; see its log."),
    )
)


def freshness(age: timedelta, instrument: str = "") -> Badge:
    """How fresh a service's last heartbeat is; the processes of an instrument send one every 5 s."""
    late_s, silent_s = (_LATE_S / 3, _SILENT_S / 3) if instrument else (_LATE_S, _SILENT_S)
    if age.total_seconds() < late_s:
        return FRESH
    return LATE if age.total_seconds() < silent_s else SILENT


def signal_badge(level: int) -> Badge:
    """The badge of a signal's level."""
    return SIGNAL_BADGES[level] if 0 <= level < len(SIGNAL_BADGES) else UNKNOWN


def alarm_badge(status: int, severity: int | None) -> Badge:
    """The badge of a process variable's EPICS alarm; severity 0 none, 1 minor, 2 major, 3 invalid."""
    text = ALARMS[status] if 0 <= status < len(ALARMS) else _ODD_ALARMS.get(status, f"status {status}")
    if status == 0 and not severity:
        return Badge(text, "check", "good")
    if status == 0xFFFF:
        return Badge(text, "minus", "idle")
    mild = severity == 1 or (severity not in (2, 3) and status in _MILD)
    return Badge(text, "alarm" if mild else "cross", "warn" if mild else "bad")


def run_badge(state: str) -> Badge:
    """The badge of a run's state."""
    return RUN_BADGES.get(state, UNKNOWN)


def step_badge(name: str, state: str) -> Badge:
    """The badge of a step's state; a running one says what it does."""
    badge = STEP_BADGES.get(state, UNKNOWN)
    if state == StepState.STARTED and name in STEPS:
        return Badge(STEPS[name][1], badge.icon, badge.tone)
    return badge


def step_title(name: str) -> str:
    """What a step is called on pages."""
    return STEPS[name][0] if name in STEPS else name.replace("_", " ")


def hint(error: str) -> str:
    """What a known error usually means; empty for others."""
    return next((text for pattern, text in _HINTS if pattern.search(error)), "")
