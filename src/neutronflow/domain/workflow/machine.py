"""The run and step machine: pure. A run's record and one message in; the new record and what is to be sent out.

A run's state changes here and nowhere else. Messages that change nothing (late, repeated, of a superseded attempt) are
refused with the reason, which goes into the run's story.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from neutronflow.domain.messages import destinations as to
from neutronflow.domain.messages.combus import is_simulated
from neutronflow.domain.messages.run import RunMessage
from neutronflow.domain.workflow.pipelines import DEFAULT_PIPELINE, StepDefinition
from neutronflow.domain.workflow.states import RunState, StepName, StepState

UNDER_WAY = frozenset([StepState.QUEUED, StepState.STARTED])
#: The attempt will change no more.
ENDED = frozenset(StepState) - UNDER_WAY - {StepState.WAITING}

#: The key in which commands, and so the answers of agents that echo unknown keys, name the step.
STEP_KEY = "nf_step"

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
#: What begins new attempts, and so decides on which file the agents will work.
BEGINNINGS = frozenset([to.POSTPROCESS_DATA_READY, *_REQUESTS])


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The current attempt of one step."""

    name: StepName
    attempt: int
    cycle: int
    state: StepState
    #: Since when it is in this state.
    since: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
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
    #: Whether a message of this run says so; what is stored already stays.
    simulated: bool = False
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
    return destination in BEGINNINGS and bool(message.data_file)


def apply(run: RunRecord, destination: str, message: RunMessage, at: datetime) -> Outcome:
    """Apply one message, whose names are checked, and which was sent at that (aware) time, to a run's record."""
    if destination == to.POSTPROCESS_DATA_READY:
        return _begin_cycle(run, message, at)
    if destination in _REQUESTS:
        return _begin_attempt(run, _REQUESTS[destination], message, at)
    if destination == to.POSTPROCESS_ERROR or (destination == to.CATALOG_ERROR and message.extra.get(STEP_KEY)):
        return _agent_failed(run, message, at)
    if destination in _ANSWERS:
        return _answer(run, *_ANSWERS[destination], message, at)
    return Outcome(run, applied=False, story=f"{destination} means nothing to a run")


def run_state(run: RunRecord) -> RunState:
    """Where a run stands, by the current attempts of its steps."""
    states = {step.state for step in run.steps.values()}
    if not states:
        return RunState.ACQUIRING
    if states & (UNDER_WAY | {StepState.WAITING}):
        return RunState.PROCESSING
    return RunState.FAILED if StepState.FAILED in states else RunState.COMPLETE


def _begin_cycle(run: RunRecord, message: RunMessage, at: datetime) -> Outcome:
    renewed = _renewed(run, message, run.cycle + 1)
    return _begin(renewed, DEFAULT_PIPELINE, message, at, f"cycle {renewed.cycle} began")


def _begin_attempt(run: RunRecord, name: StepName, message: RunMessage, at: datetime) -> Outcome:
    wanted = [step for step in DEFAULT_PIPELINE if name in (step.name, step.needs)]
    return _begin(_renewed(run, message, max(run.cycle, 1)), wanted, message, at, f"a new attempt of {name} began")


def _renewed(run: RunRecord, message: RunMessage, cycle: int) -> RunRecord:
    """The run with what the message says of it; what the message leaves out stays."""
    data_file, experiment = message.data_file or run.data_file, message.ipts or run.experiment
    simulated = run.simulated or is_simulated(message.extra)
    return replace(run, cycle=cycle, data_file=data_file, experiment=experiment, simulated=simulated)


def _begin(run: RunRecord, wanted: Iterable[StepDefinition], message: RunMessage, at: datetime, story: str) -> Outcome:
    """A new attempt of each of these steps; those that need nothing of them are queued at once."""
    wanted = list(wanted)
    if not run.data_file:
        return Outcome(run, applied=False, story="no data file of this run is known")
    changed: list[StepRecord] = []
    commands: list[Command] = []
    for step in wanted:
        before = run.steps.get(step.name)
        waits = any(other.name == step.needs for other in wanted)
        state = StepState.WAITING if waits else StepState.QUEUED
        attempt = before.attempt + 1 if before else 1
        record = StepRecord(step.name, attempt, run.cycle, state, at, queued_at=None if waits else at)
        changed.append(record)
        if not waits:
            commands.append(_command(run, step, record, message))
    return _outcome(run, story, changed, commands)


def _answer(run: RunRecord, name: StepName, state: StepState, message: RunMessage, at: datetime) -> Outcome:
    step = run.steps.get(name)
    why_not = _refusal(step, name, state, message.attempt)
    if step is None or why_not:
        return Outcome(run, applied=False, story=why_not)
    moved = _moved(step, state, message, at)
    changed, commands = [moved], []
    if state in ENDED:
        for follower in _followers(run, moved):
            record = run.steps[follower.name]
            if state is StepState.COMPLETE:
                record = replace(record, state=StepState.QUEUED, since=moved.since, queued_at=moved.since)
                commands.append(_command(run, follower, record, message))
            else:
                record = replace(record, state=StepState.SKIPPED, since=moved.since, ended_at=moved.since)
            changed.append(record)
    return _outcome(run, f"{name} attempt {step.attempt}: {step.state} → {state}", changed, commands)


def _moved(step: StepRecord, state: StepState, message: RunMessage, at: datetime) -> StepRecord:
    """The attempt in its new state. Agents name themselves in ``information`` (which others use for words)."""
    # An agent's clock may be behind the manager's; no attempt starts before it was queued.
    at = max(at, step.started_at or step.queued_at or at)
    named = message.information if state is StepState.STARTED or not (step.agent or " " in message.information) else ""
    return replace(
        step,
        state=state,
        since=at,
        started_at=step.started_at or (at if state is StepState.STARTED else None),
        ended_at=at if state in ENDED else None,
        agent=named or step.agent,
        error=(message.error or "no reason was given") if state is StepState.FAILED else "",
        information=message.information,
    )


def _refusal(step: StepRecord | None, name: StepName, state: StepState, attempt: int | None) -> str:
    """Why an answer changes nothing; empty where it does."""
    if step is None:
        return f"no attempt of {name} has begun"
    if attempt is not None and attempt > step.attempt:
        return f"there is no attempt {attempt} of {name} yet"
    if attempt is not None and attempt < step.attempt:
        return f"attempt {attempt} of {name} is superseded by attempt {step.attempt}"
    if state is StepState.NOT_NEEDED and step.state in (StepState.WAITING, StepState.FAILED):
        # People say so, also of a run whose reduction has failed.
        return ""
    if step.state not in UNDER_WAY:
        return f"{name} attempt {step.attempt} is {step.state} already; {state} comes too late"
    return ""


def _agent_failed(run: RunRecord, message: RunMessage, at: datetime) -> Outcome:
    """An agent could not even begin. It says which step (commands carry it), or it is all that are queued."""
    named = next((name for name in StepName if name == message.extra.get(STEP_KEY)), None)
    if named is not None:
        return _answer(run, named, StepState.FAILED, message, at)
    queued = [step.name for step in run.steps.values() if step.state is StepState.QUEUED]
    if not queued:
        return Outcome(run, applied=False, story="no step is queued that could have failed")
    stories, changed = [], {}
    for name in queued:
        outcome = _answer(run, name, StepState.FAILED, message, at)
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


def _command(run: RunRecord, step: StepDefinition, record: StepRecord, message: RunMessage) -> Command:
    """What an agent is told: the run as we know it, every unknown key, and which attempt of which step this is."""
    body = message.replace(
        ipts=run.experiment,
        data_file=run.data_file,
        information="",
        error="",
        attempt=record.attempt,
        cycle=record.cycle,
        extra={**message.extra, STEP_KEY: step.name.value},
    )
    return Command(step.destination, body)


def _outcome(run: RunRecord, story: str, changed: list[StepRecord], commands: list[Command]) -> Outcome:
    steps = {**run.steps, **{step.name: step for step in changed}}
    moved = replace(run, steps=MappingProxyType(steps))
    moved = replace(moved, state=run_state(moved))
    return Outcome(moved, applied=True, story=story, changed=tuple(changed), commands=tuple(commands))
