"""One batch of messages, one transaction: keys, runs, steps, story, commands, dead letters (decision 4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import psycopg

from neutronflow.domain.facility import Facilities, RunKey
from neutronflow.domain.messages import destinations
from neutronflow.domain.messages.run import BadMessage, RunMessage, decode_run_message, encode_run_message
from neutronflow.domain.workflow.machine import Command, Outcome, RunRecord, StepRecord, apply, creates_run
from neutronflow.domain.workflow.states import RunState, StepName, StepState
from neutronflow.foundation.broker.message import Message
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.ids import new_id
from neutronflow.store.named import query

Connection: TypeAlias = "psycopg.AsyncConnection[tuple[Any, ...]]"

_MAX_STORY = 255
_MAX_ANSWER_TEXT = 4096


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message to be kept with the reason why it was not applied."""

    source: str
    destination: str
    reason: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Item:
    """One understood message on its way through the batch."""

    message: Message
    run: RunKey
    said: RunMessage
    key: str


@dataclass(slots=True)
class _Known:
    """A run of this batch: its row and its record as it changes."""

    row_id: int
    record: RunRecord
    changed: dict[tuple[StepName, int], StepRecord] = field(default_factory=dict)
    touched: bool = False


@dataclass(slots=True)
class Tally:
    """What a batch came to."""

    applied: int = 0
    recorded: int = 0
    repeated: int = 0
    dead: int = 0
    commands: int = 0


class Batch:
    """Understands messages, and writes all that follows from them in the caller's transaction."""

    def __init__(self, facilities: Facilities) -> None:
        self._facilities = facilities

    def understand(self, message: Message) -> Item | DeadLetter:
        """The message as one about a checked run, or as a dead letter."""
        name = message.destination.name
        if name == destinations.DEADLETTER:
            return _forwarded(message)
        try:
            said = decode_run_message(message.body)
            run = self._facilities.run_key(said.facility, said.instrument, said.run_number)
            experiment = self._facilities.experiment(run.facility, said.ipts) if said.ipts else ""
            if name == destinations.POSTPROCESS_DATA_READY:
                self._check_data_file(said)
        except NeutronflowError as error:
            return DeadLetter("manager", name, str(error), message.headers, message.body)
        said = said.replace(facility=run.facility, instrument=run.instrument, ipts=experiment)
        return Item(message, run, said, _key(message))

    def _check_data_file(self, said: RunMessage) -> None:
        if not said.data_file:
            raise BadMessage(detail="'data_file' is missing")
        if not self._facilities.contains(Path(said.data_file)):
            raise BadMessage(detail=f"'data_file' does not lie in the archive {self._facilities.archive_root}")

    async def write(self, connection: Connection, understood: Sequence[Item | DeadLetter]) -> Tally:
        """Apply the batch. The caller commits, and acknowledges afterwards."""
        tally = Tally()
        dead = [one for one in understood if isinstance(one, DeadLetter)]
        items = [one for one in understood if isinstance(one, Item)]
        fresh = await self._first_time(connection, items)
        tally.repeated = len(items) - len(fresh)
        runs = await _lock_runs(connection, fresh)
        outcomes: list[tuple[Item, _Known, Outcome]] = []
        for item in fresh:
            known = runs.get(item.run)
            if known is None:
                dead.append(_unknown_run(item))
                continue
            outcome = apply(known.record, item.message.destination.name, item.said)
            known.record = outcome.run
            known.touched |= outcome.applied
            known.changed.update({(step.name, step.attempt): step for step in outcome.changed})
            outcomes.append((item, known, outcome))
        touched = {run: known for run, known in runs.items() if known.touched}
        tally.applied = sum(outcome.applied for _, _, outcome in outcomes)
        tally.recorded = len(outcomes) - tally.applied
        tally.dead = len(dead)
        tally.commands = sum(len(outcome.commands) for _, _, outcome in outcomes)
        await _write_runs(connection, touched)
        await _write_story(connection, outcomes)
        await _write_outbox(connection, [command for _, _, outcome in outcomes for command in outcome.commands])
        await keep_dead_letters(connection, dead)
        if touched:
            await connection.execute(
                query("announce_runs"),
                _columns(touched, facilities="facility", instruments="instrument", numbers="run_number"),
            )
        return tally

    async def _first_time(self, connection: Connection, items: Sequence[Item]) -> list[Item]:
        """Those of a batch whose effect is not committed yet; of repetitions within it, the first."""
        if not items:
            return []
        cursor = await connection.execute(query("claim_keys"), {"keys": [item.key for item in items]})
        claimed = {row[0] for row in await cursor.fetchall()}
        fresh = []
        for item in items:
            if item.key in claimed:
                claimed.remove(item.key)
                fresh.append(item)
        return fresh


async def keep_dead_letters(connection: Connection, dead: Sequence[DeadLetter]) -> None:
    """Keep these, whole."""
    if not dead:
        return
    values = {
        "sources": [_clean(one.source)[:64] for one in dead],
        "destinations": [_clean(one.destination)[:255] for one in dead],
        "reasons": [_clean(one.reason) for one in dead],
        "headers": [json.dumps({_clean(key): _clean(value) for key, value in one.headers.items()}) for one in dead],
        "bodies": [one.body for one in dead],
    }
    await connection.execute(query("keep_dead_letters"), values)


def _forwarded(message: Message) -> DeadLetter:
    """A dead letter that another service has sent here."""
    headers = message.headers
    return DeadLetter(
        headers.get("nf-source", "unknown"),
        headers.get("nf-destination", destinations.DEADLETTER),
        headers.get("nf-reason", "no reason was given"),
        headers,
        message.body,
    )


def _key(message: Message) -> str:
    """What identifies this message over redeliveries; see decision 4."""
    if message.nf_id:
        return f"nf:{message.nf_id[:64]}"
    # A broker that lost its memory may give a number again: with the content beside it, that is no match.
    return f"id:{message.message_id[:200]}:{hashlib.sha256(message.body).hexdigest()[:32]}"


def _unknown_run(item: Item) -> DeadLetter:
    reason = f"The run {item.run} is not known; {item.message.destination.name} cannot be the first to speak of it."
    return DeadLetter("manager", item.message.destination.name, reason, item.message.headers, item.message.body)


async def _lock_runs(connection: Connection, items: Sequence[Item]) -> dict[RunKey, _Known]:
    """The runs of these messages, locked; those that a message may create are created."""
    if not items:
        return {}
    wanted = dict.fromkeys(item.run for item in items)
    runs = await _select_runs(connection, wanted)
    new = dict.fromkeys(
        item.run for item in items if item.run not in runs and creates_run(item.message.destination.name, item.said)
    )
    experiments = {(item.run.facility, item.said.ipts): None for item in items if item.said.ipts}
    if new:
        await _ensure(connection, "ensure_instruments", [(run.facility, run.instrument) for run in new])
        await connection.execute(
            query("ensure_runs"), _columns(new, facilities="facility", instruments="instrument", numbers="run_number")
        )
        runs |= await _select_runs(connection, new)
    if any(known.record.experiment != item.said.ipts for item in items if (known := runs.get(item.run))):
        await _ensure(connection, "ensure_experiments", list(experiments))
    await _add_steps(connection, runs)
    return runs


async def _select_runs(connection: Connection, wanted: Iterable[RunKey]) -> dict[RunKey, _Known]:
    columns = _columns(wanted, facilities="facility", instruments="instrument", numbers="run_number")
    cursor = await connection.execute(query("lock_runs"), columns)
    found = {}
    for row_id, facility, instrument, number, cycle, state, data_file, experiment in await cursor.fetchall():
        record = RunRecord(cycle, RunState(state), data_file, experiment)
        found[RunKey(facility, instrument, number)] = _Known(row_id, record)
    return found


async def _add_steps(connection: Connection, runs: Mapping[RunKey, _Known]) -> None:
    by_row = {known.row_id: known for known in runs.values()}
    steps: dict[int, dict[StepName, StepRecord]] = {row_id: {} for row_id in by_row}
    cursor = await connection.execute(query("current_steps"), {"runs": list(by_row)})
    for row_id, name, attempt, cycle, state, agent in await cursor.fetchall():
        steps[row_id][StepName(name)] = StepRecord(StepName(name), attempt, cycle, StepState(state), agent)
    for row_id, known in by_row.items():
        record = known.record
        known.record = RunRecord(
            record.cycle, record.state, record.data_file, record.experiment, MappingProxyType(steps[row_id])
        )


async def _ensure(connection: Connection, name: str, pairs: Sequence[tuple[str, str]]) -> None:
    if pairs:
        facilities, names = zip(*pairs, strict=True)
        await connection.execute(query(name), {"facilities": list(facilities), "names": list(names)})


async def _write_runs(connection: Connection, touched: Mapping[RunKey, _Known]) -> None:
    if not touched:
        return
    records = [(run, known.row_id, known.record) for run, known in touched.items()]
    values = {
        "ids": [row_id for _, row_id, _ in records],
        "cycles": [record.cycle for _, _, record in records],
        "states": [record.state.value for _, _, record in records],
        "files": [record.data_file for _, _, record in records],
        "facilities": [run.facility for run, _, _ in records],
        "experiments": [record.experiment for _, _, record in records],
    }
    await connection.execute(query("write_runs"), values)
    steps = [(known.row_id, step) for known in touched.values() for step in known.changed.values()]
    columns: dict[str, list[object]] = {
        "runs": [row_id for row_id, _ in steps],
        "names": [step.name.value for _, step in steps],
        "attempts": [step.attempt for _, step in steps],
        "cycles": [step.cycle for _, step in steps],
        "states": [step.state.value for _, step in steps],
        "agents": [_clean(step.agent)[:255] for _, step in steps],
        "errors": [_clean(step.error)[:_MAX_ANSWER_TEXT] for _, step in steps],
        "informations": [_clean(step.information)[:_MAX_ANSWER_TEXT] for _, step in steps],
    }
    await connection.execute(query("write_steps"), columns)


async def _write_story(connection: Connection, outcomes: Sequence[tuple[Item, _Known, Outcome]]) -> None:
    if not outcomes:
        return
    values: dict[str, list[object]] = {
        "runs": [known.row_id for _, known, _ in outcomes],
        "destinations": [item.message.destination.name for item, _, _ in outcomes],
        "message_ids": [_clean(item.message.message_id)[:255] for item, _, _ in outcomes],
        "nf_ids": [_clean(item.message.nf_id or "")[:64] for item, _, _ in outcomes],
        "attempts": [_bounded(item.said.attempt) for item, _, _ in outcomes],
        "applied": [outcome.applied for _, _, outcome in outcomes],
        "outcomes": [outcome.story[:_MAX_STORY] for _, _, outcome in outcomes],
        "informations": [_clean(item.said.information) for item, _, _ in outcomes],
        "errors": [_clean(item.said.error) for item, _, _ in outcomes],
    }
    await connection.execute(query("record_events"), values)


async def _write_outbox(connection: Connection, commands: Sequence[Command]) -> None:
    if not commands:
        return
    values: dict[str, list[object]] = {
        "destinations": [command.destination for command in commands],
        "nf_ids": [new_id() for _ in commands],
        "bodies": [encode_run_message(command.message) for command in commands],
    }
    await connection.execute(query("put_into_outbox"), values)


def _columns(runs: Iterable[RunKey], **names: str) -> dict[str, list[object]]:
    """Columns for unnest: parameter name -> attribute of the run keys."""
    keys = list(runs)
    return {parameter: [getattr(run, attribute) for run in keys] for parameter, attribute in names.items()}


def _clean(text: str) -> str:
    """Text as PostgreSQL can hold it: no NUL, no lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _bounded(number: int | None) -> int | None:
    return number if number is None or abs(number) < 2**31 else None
