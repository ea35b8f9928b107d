"""The run and step machine: its rules one by one, then whatever order messages may come in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neutronflow.domain.messages import destinations as to
from neutronflow.domain.messages.run import RunMessage
from neutronflow.domain.workflow.machine import ENDED, Outcome, RunRecord, apply, creates_run, run_state
from neutronflow.domain.workflow.states import RunState, StepName, StepState

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID = RunMessage(facility="SNS", instrument="HYS", ipts="IPTS-1", run_number=7, data_file="/a/HYS_7.nxs.h5")


def after(*steps: tuple[str, RunMessage] | str, run: RunRecord | None = None) -> Outcome:
    """What becomes of a run when these messages come one second after another."""
    outcome = Outcome(run or RunRecord(), applied=False, story="")
    for second, step in enumerate(steps):
        destination, message = (step, SAID) if isinstance(step, str) else step
        outcome = apply(outcome.run, destination, message, T0 + timedelta(seconds=second))
    return outcome


def states(outcome: Outcome) -> dict[str, str]:
    return {name.value: step.state.value for name, step in outcome.run.steps.items()}


def sent(outcome: Outcome) -> list[tuple[str, int | None]]:
    return [(command.destination, command.message.attempt) for command in outcome.commands]


def test_data_ready_starts_cataloging_and_reduction_at_once() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY)
    assert states(outcome) == {"catalog_raw": "queued", "reduce": "queued", "catalog_reduced": "waiting"}
    assert sent(outcome) == [(to.CATALOG_RAW_READY, 1), (to.REDUCTION_READY, 1)]
    assert outcome.run.state is RunState.PROCESSING
    assert (outcome.run.cycle, outcome.run.data_file, outcome.run.experiment) == (1, SAID.data_file, "IPTS-1")


def test_a_command_carries_what_agents_need_and_every_unknown_key() -> None:
    said = SAID.replace(
        information="by a person", error="old", attempt=9, cycle=9, extra={"host": "dtn", "nf_step": "x"}
    )
    (_, command) = after((to.POSTPROCESS_DATA_READY, said)).commands
    assert command.message.extra == {"host": "dtn", "nf_step": "reduce"}
    assert (command.message.attempt, command.message.cycle) == (1, 1)
    assert (command.message.information, command.message.error) == ("", "")
    assert command.message.facility == "SNS"


def test_a_good_run_becomes_complete() -> None:
    outcome = after(
        to.POSTPROCESS_DATA_READY,
        to.CATALOG_RAW_STARTED,
        to.CATALOG_RAW_COMPLETE,
        to.REDUCTION_STARTED,
        to.REDUCTION_COMPLETE,
    )
    assert sent(outcome) == [(to.REDUCTION_CATALOG_READY, 1)]
    outcome = after(to.REDUCTION_CATALOG_STARTED, to.REDUCTION_CATALOG_COMPLETE, run=outcome.run)
    assert set(states(outcome).values()) == {"complete"}
    assert outcome.run.state is RunState.COMPLETE


def test_a_failed_reduction_skips_its_cataloging_and_fails_the_run_when_all_has_ended() -> None:
    failed = SAID.replace(error="REDUCTION: exit code 3")
    outcome = after(to.POSTPROCESS_DATA_READY, to.REDUCTION_STARTED, (to.REDUCTION_ERROR, failed))
    assert states(outcome) == {"catalog_raw": "queued", "reduce": "failed", "catalog_reduced": "skipped"}
    assert outcome.run.steps[StepName.REDUCE].error == "REDUCTION: exit code 3"
    assert outcome.run.state is RunState.PROCESSING
    assert after(to.CATALOG_RAW_COMPLETE, run=outcome.run).run.state is RunState.FAILED


@pytest.mark.parametrize("answer", [to.REDUCTION_DISABLED, to.REDUCTION_NOT_NEEDED])
def test_a_run_that_needs_no_reduction_is_complete_once_cataloged(answer: str) -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, answer, to.CATALOG_RAW_COMPLETE)
    assert states(outcome)["catalog_reduced"] == "skipped"
    assert outcome.run.state is RunState.COMPLETE


def test_a_person_can_say_of_a_failed_reduction_that_it_was_not_needed() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.CATALOG_RAW_COMPLETE, to.REDUCTION_ERROR, to.REDUCTION_NOT_NEEDED)
    assert outcome.run.state is RunState.COMPLETE


def test_a_second_data_ready_begins_a_new_cycle_of_new_attempts() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.CATALOG_RAW_COMPLETE, to.POSTPROCESS_DATA_READY)
    assert outcome.run.cycle == 2
    assert {step.attempt for step in outcome.run.steps.values()} == {2}
    assert states(outcome)["catalog_raw"] == "queued"


def test_a_reduction_request_renews_the_reduction_and_its_cataloging_only() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.REDUCTION_ERROR, to.REDUCTION_REQUEST)
    assert {step.name.value: step.attempt for step in outcome.run.steps.values()} == {
        "catalog_raw": 1,
        "reduce": 2,
        "catalog_reduced": 2,
    }
    assert sent(outcome) == [(to.REDUCTION_READY, 2)]
    assert outcome.run.cycle == 1


def test_a_catalog_request_renews_the_cataloging_of_the_raw_file_only() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.CATALOG_REQUEST)
    assert sent(outcome) == [(to.CATALOG_RAW_READY, 2)]
    assert outcome.run.steps[StepName.REDUCE].attempt == 1


def test_a_request_without_a_data_file_uses_the_one_that_is_known() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, (to.REDUCTION_REQUEST, SAID.replace(data_file="", ipts="")))
    assert outcome.commands[0].message.data_file == SAID.data_file
    assert outcome.commands[0].message.ipts == "IPTS-1"
    nothing = after((to.REDUCTION_REQUEST, SAID.replace(data_file="")))
    assert (nothing.applied, nothing.story) == (False, "no data file of this run is known")


def test_an_answer_of_a_superseded_attempt_changes_nothing() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.REDUCTION_REQUEST, (to.REDUCTION_COMPLETE, SAID.replace(attempt=1)))
    assert (outcome.applied, outcome.story) == (False, "attempt 1 of reduce is superseded by attempt 2")
    assert after((to.REDUCTION_COMPLETE, SAID.replace(attempt=2)), run=outcome.run).applied


def test_an_answer_of_an_attempt_that_does_not_exist_changes_nothing() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, (to.REDUCTION_COMPLETE, SAID.replace(attempt=5)))
    assert (outcome.applied, outcome.story) == (False, "there is no attempt 5 of reduce yet")


def test_a_late_started_changes_nothing() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.REDUCTION_COMPLETE, to.REDUCTION_STARTED)
    assert not outcome.applied
    assert outcome.run.steps[StepName.REDUCE].state is StepState.COMPLETE


def test_a_job_that_another_agent_takes_over_names_that_agent() -> None:
    first, second = (SAID.replace(information=f"autoreducer{number}") for number in (1, 2))
    outcome = after(to.POSTPROCESS_DATA_READY, (to.REDUCTION_STARTED, first), (to.REDUCTION_STARTED, second))
    step = outcome.run.steps[StepName.REDUCE]
    assert (step.agent, step.started_at) == ("autoreducer2", T0 + timedelta(seconds=1))


def test_an_agent_whose_started_was_lost_is_known_by_its_last_answer() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, (to.REDUCTION_COMPLETE, SAID.replace(information="autoreducer1")))
    assert outcome.run.steps[StepName.REDUCE].agent == "autoreducer1"


def test_an_agent_that_cannot_begin_fails_the_step_it_names() -> None:
    refused = SAID.replace(error="Data file does not exist", attempt=1, extra={"nf_step": "catalog_raw"})
    outcome = after(to.POSTPROCESS_DATA_READY, (to.POSTPROCESS_ERROR, refused))
    assert states(outcome) == {"catalog_raw": "failed", "reduce": "queued", "catalog_reduced": "waiting"}


def test_an_agent_that_names_no_step_fails_those_that_are_queued() -> None:
    outcome = after(to.POSTPROCESS_DATA_READY, to.CATALOG_RAW_STARTED, to.POSTPROCESS_ERROR)
    assert states(outcome) == {"catalog_raw": "started", "reduce": "failed", "catalog_reduced": "skipped"}


def test_catalog_error_is_that_of_the_reduced_data_unless_it_says_otherwise() -> None:
    good = (to.POSTPROCESS_DATA_READY, to.REDUCTION_COMPLETE, to.REDUCTION_CATALOG_STARTED)
    assert states(after(*good, to.CATALOG_ERROR))["catalog_reduced"] == "failed"
    raw = SAID.replace(extra={"nf_step": "catalog_raw"})
    assert states(after(*good, (to.CATALOG_ERROR, raw)))["catalog_raw"] == "failed"


def test_only_what_names_a_file_may_be_the_first_to_speak_of_a_run() -> None:
    assert creates_run(to.POSTPROCESS_DATA_READY, SAID)
    assert creates_run(to.REDUCTION_REQUEST, SAID)
    assert not creates_run(to.POSTPROCESS_DATA_READY, SAID.replace(data_file=""))
    assert not creates_run(to.REDUCTION_STARTED, SAID)


def test_a_destination_that_means_nothing_to_runs_is_refused() -> None:
    assert not after("SOMETHING.ELSE").applied


messages = st.tuples(
    st.sampled_from([name for name in to.MANAGER_INPUTS if name != to.DEADLETTER]),
    st.builds(
        lambda attempt, information, error, step, back: (
            SAID.replace(
                attempt=attempt, information=information, error=error, extra={} if step is None else {"nf_step": step}
            ),
            back,
        ),
        st.sampled_from([None, None, 1, 2, 3]),
        st.sampled_from(["", "autoreducer1", "some words of it"]),
        st.sampled_from(["", "REDUCTION: it broke"]),
        st.sampled_from([None, None, "reduce", "catalog_raw", 7, ["reduce"]]),
        st.integers(0, 5),
    ),
)


def check_step(old: RunRecord, new: RunRecord, name: StepName) -> None:
    """What holds for every step, whatever has come."""
    before, step = old.steps.get(name), new.steps[name]
    if before is not None:
        assert step.attempt in (before.attempt, before.attempt + 1)
        if step.attempt == before.attempt and before.state in ENDED:
            assert step.state is before.state or (before.state, step.state) == (StepState.FAILED, StepState.NOT_NEEDED)
    times = [at for at in (step.queued_at, step.started_at) if at is not None]
    assert times == sorted(times)
    assert (step.ended_at is not None) == (step.state in ENDED)
    assert bool(step.error) == (step.state is StepState.FAILED)
    if step.state is StepState.STARTED:
        assert step.started_at is not None


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=25))
def test_invariants_hold_in_any_order_with_repetitions_and_gaps(
    inputs: list[tuple[str, tuple[RunMessage, int]]],
) -> None:
    run, commanded = RunRecord(), set()
    for second, (destination, (message, back)) in enumerate(inputs):
        outcome = apply(run, destination, message, T0 + timedelta(seconds=second - back))
        assert outcome.story
        if not outcome.applied:
            assert (outcome.run, outcome.changed, outcome.commands) == (run, (), ())
        assert outcome.run.state is run_state(outcome.run)
        for name in outcome.run.steps:
            check_step(run, outcome.run, name)
        for command in outcome.commands:
            step = outcome.run.steps[StepName(command.message.extra["nf_step"])]
            assert (command.message.attempt, step.state) == (step.attempt, StepState.QUEUED)
            assert (step.name, step.attempt) not in commanded, "an attempt is commanded once"
            commanded.add((step.name, step.attempt))
        steps = outcome.run.steps
        if (follower := steps.get(StepName.CATALOG_REDUCED)) and follower.state in (
            StepState.QUEUED,
            StepState.STARTED,
        ):
            assert steps[StepName.REDUCE].state is StepState.COMPLETE
        run = outcome.run
