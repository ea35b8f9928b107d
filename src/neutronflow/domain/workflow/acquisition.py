"""What a beamline says of a run before its first cycle: pure. From then on the run is the machine's.

The reasons are those that the stream service in use today gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from neutronflow.domain.workflow.states import RunState

STARTED: Final = "SMS run started"
STOPPED: Final = "SMS run stopped"
#: Reasons go on after these words.
NEEDS_HANDS: Final = "Needs Manual Translation"
TROUBLE: Final = "STC transient Error"
TRANSLATED: Final = "Translation Succeeded"


@dataclass(frozen=True, slots=True)
class News:
    """What a reason did: the state that the run is in now, whether it did anything, a few words of story."""

    state: RunState
    applied: bool = True
    story: str = ""


def told(state: RunState, cycle: int, reason: str) -> News:
    """Apply a reason to a run in this state, which went through its steps so often."""
    wanted = _wanted(state, reason)
    if wanted is None:
        return News(state)
    if cycle > 0:
        return News(state, applied=False, story="the run is in the workflow already")
    return News(wanted, story=f"{state} → {wanted}" if wanted != state else str(state))


def _wanted(state: RunState, reason: str) -> RunState | None:
    if reason.startswith(STARTED):
        return RunState.ACQUIRING
    # Whoever has missed that it was stopped learns it from what can only come afterwards.
    if reason.startswith(STOPPED) or (state is RunState.ACQUIRING and reason.startswith((NEEDS_HANDS, TRANSLATED))):
        return RunState.TRANSLATING
    return None
