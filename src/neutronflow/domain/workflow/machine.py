"""The run and step machine: pure. A run's record and one message in; the new record and what is to be sent out.

A run's state changes here and nowhere else. Messages that change nothing (late, repeated, of a superseded attempt) are
refused with the reason, which goes into the run's story.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from neutronflow.domain.messages import destinations as to
from neutronflow.domain.messages.run import RunMessage
from neutronflow.domain.workflow.pipelines import DEFAULT_PIPELINE, StepDefinition
from neutronflow.domain.workflow.states import RunState, StepName, StepState

UNDER_WAY = frozenset([StepState.QUEUED, StepState.STARTED])
#: The attempt will change no more.
ENDED = frozenset(StepState) - UNDER_WAY - {StepState.WAITING}
_NOTHING_TO_DO = frozenset([StepState.DISABLED, StepState.NOT_NEEDED])

#: What each answer says of which step.
_ANSWERS: Mapping[str, tuple[StepName, StepState]] = {
    to.CATALOG_RAW_STARTED: (StepName.CATALOG_RAW, StepState.STARTED),
    to.CATALOG_RAW_COMPLETE: (StepName.CATALOG_RAW, StepState.COMPLETE),
    to.CATALOG_RAW_ERROR: (StepName.CATALOG_RAW, StepState.FAILED),
    to.REDUCTION_STARTED: (StepName.REDUCE, StepState.STARTED),
    to.REDUCTION_COMPLETE: (StepName.REDUCE, StepState.COMPLETE),
    to.REDUCTION_ERROR: (StepName.REDUCE, StepState.FAILED),
    to.REDUCTION_DISABLED: (StepName.REDUCE, StepState.DISABLED),
    to.REDUCTION_NOT_NEEDED: (StepName.REDUCE, StepState.NOT_NEEDED),
    to.REDUCTION_CATALOG_STARTED: (StepName.CATALOG_REDUCED, StepState.STARTED),
    to.REDUCTION_CATALOG_COMPLETE: (StepName.CATALOG_REDUCED, StepState.COMPLETE),
    to.REDUCTION_CATALOG_ERROR: (StepName.CATALOG_REDUCED, StepState.FAILED),
    to.CATALOG_ERROR: (StepName.CATALOG_REDUCED, StepState.FAILED),
}
_REQUESTS: Mapping[str, StepName] = {to.CATALOG_REQUEST: StepName.CATALOG_RAW, to.REDUCTION_REQUEST: StepName.REDUCE}


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The current attempt of one step."""

    name: StepName
    attempt: int
    cycle: int
    state: StepState
    agent: str = ""
    error: str = ""
    information: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the database has it: its cycle, and the current attempt of each step."""

    cycle: int = 0
    state: RunState = RunState.ACQUIRING
    data_file: str = ""
    experiment: str = ""
    steps: Mapping[StepName, StepRecord] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Command:
    """A run message to be published on a queue."""

    destination: str
    message: RunMessage


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message did: the new record, the attempts that changed, the commands that follow, a few words of story."""

    run: RunRecord
    applied: bool
    story: str
    changed: tuple[StepRecord, ...] = ()
    commands: tuple[Command, ...] = ()


def creates_run(destination: str, message: RunMessage) -> bool:
    """Whether a message may speak of a run that is not known yet."""
    return destination == to.POSTPROCESS_DATA_READY or (destination in _REQUESTS and bool(message.data_file))


def apply(run: RunRecord, destination: str, message: RunMessage) -> Outcome:
    """Apply one message, whose names are checked, to a run's record."""
    if destination == to.POSTPROCESS_DATA_READY:
        return _begin_cycle(run, message)
    if destination in _REQUESTS:
        return _begin_attempt(run, _REQUESTS[destination], message)
    if destination in _ANSWERS:
        return _answer(run, *_ANSWERS[destination], message)
    if destination == to.POSTPROCESS_ERROR:
        return _agent_failed(run, message)
    return Outcome(run, applied=False, story=f"{destination} means nothing to a run")


def run_state(run: RunRecord) -> RunState:
    """Where a run stands, by the current attempts of its steps."""
    states = {step.state for step in run.steps.values()}
    if not states:
        return RunState.ACQUIRING
    if states & (UNDER_WAY | {StepState.WAITING}):
        return RunState.PROCESSING
    return RunState.FAILED if StepState.FAILED in states else RunState.COMPLETE


def _begin_cycle(run: RunRecord, message: RunMessage) -> Outcome:
    if not message.data_file:
        return Outcome(run, applied=False, story="it names no data file")
    renewed = replace(run, cycle=run.cycle + 1, data_file=message.data_file, experiment=message.ipts)
    return _begin(renewed, DEFAULT_PIPELINE, message, f"cycle {renewed.cycle} began")


def _begin_attempt(run: RunRecord, name: StepName, message: RunMessage) -> Outcome:
    data_file = message.data_file or run.data_file
    if not data_file:
        return Outcome(run, applied=False, story="the run has no data file yet")
    renewed = replace(run, cycle=max(run.cycle, 1), data_file=data_file, experiment=message.ipts or run.experiment)
    wanted = [step for step in DEFAULT_PIPELINE if name in (step.name, step.needs)]
    command = message.replace(data_file=data_file, ipts=renewed.experiment)
    return _begin(renewed, wanted, command, f"a new attempt of {name} began")


def _begin(run: RunRecord, wanted: Iterable[StepDefinition], message: RunMessage, story: str) -> Outcome:
    """A new attempt of each of these steps; those that need nothing of them are queued at once."""
    wanted = list(wanted)
    changed: list[StepRecord] = []
    commands: list[Command] = []
    for step in wanted:
        before = run.steps.get(step.name)
        waits = any(other.name == step.needs for other in wanted)
        state = StepState.WAITING if waits else StepState.QUEUED
        record = StepRecord(step.name, before.attempt + 1 if before else 1, run.cycle, state)
        changed.append(record)
        if not waits:
            commands.append(_command(step, record, message))
    return _outcome(run, story, changed, commands)


def _answer(run: RunRecord, name: StepName, state: StepState, message: RunMessage) -> Outcome:
    step = run.steps.get(name)
    why_not = _refusal(step, name, state, message.attempt)
    if step is None or why_not:
        return Outcome(run, applied=False, story=why_not)
    moved = replace(
        step,
        state=state,
        agent=message.information or step.agent if state is StepState.STARTED else step.agent,
        error=message.error if state is StepState.FAILED else "",
        information=message.information,
    )
    changed, commands = [moved], []
    if state in ENDED:
        for follower in _followers(run, moved):
            record = replace(
                run.steps[follower.name],
                state=StepState.QUEUED if state is StepState.COMPLETE else StepState.SKIPPED,
            )
            changed.append(record)
            if record.state is StepState.QUEUED:
                commands.append(_command(follower, record, message))
    return _outcome(run, f"{name} attempt {step.attempt}: {step.state} → {state}", changed, commands)


def _refusal(step: StepRecord | None, name: StepName, state: StepState, attempt: int | None) -> str:
    """Why an answer changes nothing; empty where it does."""
    if step is None:
        return f"no attempt of {name} has begun"
    if attempt is not None and attempt != step.attempt:
        return f"attempt {attempt} of {name} is superseded by attempt {step.attempt}"
    if state is StepState.NOT_NEEDED and step.state is StepState.WAITING:
        return ""
    if step.state not in UNDER_WAY:
        return f"{name} attempt {step.attempt} is {step.state} already; {state} comes too late"
    return ""


def _agent_failed(run: RunRecord, message: RunMessage) -> Outcome:
    """POSTPROCESS.ERROR: an agent could not even begin. It says which step, or it is all that are queued."""
    named = message.extra.get("nf_step")
    under_way = [step.name for step in run.steps.values() if step.state in UNDER_WAY and named in (None, "", step.name)]
    if not under_way:
        return Outcome(run, applied=False, story="no step is under way that could have failed")
    stories, changed = [], {}
    for name in under_way:
        outcome = _answer(run, name, StepState.FAILED, message)
        run = outcome.run
        stories.append(outcome.story)
        changed.update({step.name: step for step in outcome.changed})
    return Outcome(run, applied=bool(changed), story="; ".join(stories), changed=tuple(changed.values()))


def _followers(run: RunRecord, ended: StepRecord) -> list[StepDefinition]:
    """Steps that wait for this one."""
    return [
        step
        for step in DEFAULT_PIPELINE
        if step.needs == ended.name and step.name in run.steps and run.steps[step.name].state is StepState.WAITING
    ]


def _command(step: StepDefinition, record: StepRecord, message: RunMessage) -> Command:
    extra = {key: value for key, value in message.extra.items() if key != "nf_step"}
    body = message.replace(information="", error="", attempt=record.attempt, cycle=record.cycle, extra=extra)
    return Command(step.destination, body)


def _outcome(run: RunRecord, story: str, changed: list[StepRecord], commands: list[Command]) -> Outcome:
    steps = {**run.steps, **{step.name: step for step in changed}}
    moved = replace(run, steps=MappingProxyType(steps))
    moved = replace(moved, state=run_state(moved))
    return Outcome(moved, applied=True, story=story, changed=tuple(changed), commands=tuple(commands))
