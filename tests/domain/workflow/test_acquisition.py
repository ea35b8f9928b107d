from __future__ import annotations

import pytest

from neutronflow.domain.workflow.acquisition import News, told
from neutronflow.domain.workflow.states import RunState

ACQUIRING, TRANSLATING, COMPLETE = RunState.ACQUIRING, RunState.TRANSLATING, RunState.COMPLETE


@pytest.mark.parametrize(
    ("state", "reason", "after"),
    [
        (ACQUIRING, "SMS run started", ACQUIRING),
        (ACQUIRING, "SMS run stopped", TRANSLATING),
        (TRANSLATING, "SMS run started", ACQUIRING),
        (ACQUIRING, "Translation Succeeded - Run 1 successfully translated", TRANSLATING),
        (ACQUIRING, "Needs Manual Translation - disk full", TRANSLATING),
        (TRANSLATING, "Translation Succeeded", TRANSLATING),
        (ACQUIRING, "SMS run paused", ACQUIRING),
        (ACQUIRING, "SMS Start Run Sent to STC", ACQUIRING),
        (ACQUIRING, "STC transient Error - connection lost", ACQUIRING),
        (TRANSLATING, "Rescan STC Send Pending", TRANSLATING),
        (ACQUIRING, "SMS gap: 12:00 to 12:01", ACQUIRING),
        (ACQUIRING, "anything else", ACQUIRING),
    ],
)
def test_reasons_move_a_run_that_is_in_no_cycle_yet(state: RunState, reason: str, after: RunState) -> None:
    news = told(state, 0, reason)
    assert (news.state, news.applied) == (after, True)


@pytest.mark.parametrize("state", [RunState.PROCESSING, COMPLETE, RunState.FAILED])
@pytest.mark.parametrize("reason", ["SMS run started", "SMS run stopped"])
def test_a_run_in_the_workflow_is_the_managers(state: RunState, reason: str) -> None:
    assert told(state, 1, reason) == News(state, applied=False, story="the run is in the workflow already")


def test_what_moves_nothing_is_no_refusal() -> None:
    assert told(COMPLETE, 1, "Translation Succeeded") == News(COMPLETE)
    assert told(COMPLETE, 1, "SMS gap: late") == News(COMPLETE)
