"""One batch of messages, one transaction: keys, runs, steps, story, commands, dead letters (decision 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

from neutronflow.domain.facility import Facilities, RunKey
from neutronflow.domain.messages import destinations
from neutronflow.domain.messages.run import BadMessage, RunMessage, decode_run_message, encode_run_message
from neutronflow.domain.workflow.machine import BEGINNINGS, Command, Outcome, RunRecord, StepRecord, apply, creates_run
from neutronflow.domain.workflow.states import RunState, StepName, StepState
from neutronflow.foundation.broker.message import Message
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.ids import new_id
from neutronflow.store.connection import Connection
from neutronflow.store.deadletters import DeadLetter, keep_dead_letters
from neutronflow.store.named import query, run_columns
from neutronflow.store.seen import claim, message_key
from neutronflow.store.text import storable

_MAX_STORY = 255
_MAX_ANSWER_TEXT = 4096
#: Within this time a message's own time (in its nf-id) is believed.
_OLDEST = timedelta(days=7)


@dataclass(slots=True)
class Item:
    """One understood message on its way through the batch."""

    message: Message
    run: RunKey
    said: RunMessage
    key: str
    #: When it was sent, as far as it tells; else when it came.
    at: datetime
    #: Whether ``at`` is the sender's.
    dated: bool


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
        """The message as one about a checked run, or as a dead letter. Looks at the archive's file system."""
        name = message.destination.name
        if name == destinations.DEADLETTER:
            return _forwarded(message)
        try:
            said = decode_run_message(message.body)
            run = self._facilities.run_key(said.facility, said.instrument, said.run_number)
            experiment = self._facilities.experiment(run.facility, said.ipts) if said.ipts else ""
            if name in BEGINNINGS and said.data_file:
                self._check_data_file(said.data_file)
        except NeutronflowError as error:
            return DeadLetter.of(message, "manager", str(error))
        said = said.replace(facility=run.facility, instrument=run.instrument, ipts=experiment)
        now = datetime.now(UTC)
        sent = _sent_at(message, now)
        return Item(message, run, said, message_key(message), sent or now, dated=sent is not None)

    def _check_data_file(self, data_file: str) -> None:
        try:
            contained = self._facilities.contains(Path(data_file))
        except (OSError, ValueError, RuntimeError) as error:
            # A path that the file system cannot follow: a loop of links, a name that is none.
            raise BadMessage(detail=f"'data_file' is no usable path ({error})") from error
        if not contained:
            raise BadMessage(detail=f"'data_file' does not lie in the archive {self._facilities.archive_root}")

    async def write(self, connection: Connection, understood: Sequence[Item | DeadLetter]) -> Tally:
        """Apply the batch. The caller commits, and acknowledges afterwards."""
        tally = Tally()
        new = await _first_time(connection, understood)
        tally.repeated = len(understood) - len(new)
        dead = [one for one in new if isinstance(one, DeadLetter)]
        fresh = in_order([one for one in new if isinstance(one, Item)])
        runs = await _lock_runs(connection, fresh)
        outcomes: list[tuple[Item, _Known, Outcome]] = []
        for item in fresh:
            known = runs.get(item.run)
            if known is None:
                dead.append(_unknown_run(item))
                continue
            outcome = apply(known.record, item.message.destination.name, item.said, item.at)
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
        if outcomes:
            told = dict.fromkeys(item.run for item, _, _ in outcomes)
            await connection.execute(query("announce_runs"), run_columns(told))
        return tally


def in_order(items: Sequence[Item]) -> list[Item]:
    """The items as they were sent. Each queue is in order, but what comes first of several queues is chance.

    Those that tell no time stay where they are.
    """
    dated = iter(sorted((item for item in items if item.dated), key=lambda item: (item.at, item.key)))
    return [next(dated) if item.dated else item for item in items]


async def _first_time(connection: Connection, understood: Sequence[Item | DeadLetter]) -> list[Item | DeadLetter]:
    """Those of a batch whose effect is not committed yet; of repetitions within it, the first."""
    claimed = await claim(connection, (one.key for one in understood))
    fresh = []
    for one in understood:
        if one.key in claimed:
            claimed.remove(one.key)
            fresh.append(one)
    return fresh


def _forwarded(message: Message) -> DeadLetter:
    """A dead letter that another service has sent here."""
    headers = message.headers
    return DeadLetter(
        source=headers.get("nf-source", "unknown"),
        destination=headers.get("nf-destination", destinations.DEADLETTER).removeprefix("/queue/"),
        reason=headers.get("nf-reason", "no reason was given"),
        headers=headers,
        body=message.body,
        key=message_key(message),
    )


def _sent_at(message: Message, now: datetime) -> datetime | None:
    """When the sender made the message, by its nf-id (a UUIDv7), where that is credible."""
    try:
        identity = UUID(message.nf_id or "")
    except ValueError:
        return None
    if identity.version != 7:
        return None
    at = datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)
    return at if now - _OLDEST < at <= now else None


def _unknown_run(item: Item) -> DeadLetter:
    reason = f"The run {item.run} is not known; {item.message.destination.name} cannot be the first to speak of it."
    return DeadLetter.of(item.message, "manager", reason)


async def _lock_runs(connection: Connection, items: Sequence[Item]) -> dict[RunKey, _Known]:
    """The runs of these messages, locked; those that a message may create are created."""
    if not items:
        return {}
    # Everything is made before anything is locked, each in a fixed order: managers wait for each other, never in a circle.
    beginning = dict.fromkeys(item.run for item in items if creates_run(item.message.destination.name, item.said))
    if beginning:
        cursor = await connection.execute(query("missing_runs"), run_columns(beginning))
        missing = [RunKey(*row) for row in await cursor.fetchall()]
        if missing:
            await _ensure(connection, "ensure_instruments", [(run.facility, run.instrument) for run in missing])
            await connection.execute(query("ensure_runs"), run_columns(missing))
    runs = await _select_runs(connection, dict.fromkeys(item.run for item in items))
    experiments = {
        (item.run.facility, item.said.ipts)
        for item in items
        if item.message.destination.name in BEGINNINGS
        and item.said.ipts
        and (known := runs.get(item.run))
        and known.record.experiment != item.said.ipts
    }
    await _ensure(connection, "ensure_experiments", sorted(experiments))
    await _add_steps(connection, runs)
    return runs


async def _select_runs(connection: Connection, wanted: Iterable[RunKey]) -> dict[RunKey, _Known]:
    cursor = await connection.execute(query("lock_runs"), run_columns(wanted))
    ids = [row[0] for row in await cursor.fetchall()]
    # Read after the lock was had: what the former holder has written is seen.
    cursor = await connection.execute(query("read_runs"), {"ids": ids})
    found = {}
    for row_id, facility, instrument, number, cycle, state, data_file, experiment in await cursor.fetchall():
        record = RunRecord(cycle, RunState(state), data_file, experiment)
        found[RunKey(facility, instrument, number)] = _Known(row_id, record)
    return found


async def _add_steps(connection: Connection, runs: Mapping[RunKey, _Known]) -> None:
    by_row = {known.row_id: known for known in runs.values()}
    steps: dict[int, dict[StepName, StepRecord]] = {row_id: {} for row_id in by_row}
    cursor = await connection.execute(query("current_steps"), {"runs": list(by_row)})
    for row_id, name, attempt, cycle, state, *rest in await cursor.fetchall():
        steps[row_id][StepName(name)] = StepRecord(StepName(name), attempt, cycle, StepState(state), *rest)
    for row_id, known in by_row.items():
        record = known.record
        known.record = RunRecord(
            record.cycle, record.state, record.data_file, record.experiment, steps=MappingProxyType(steps[row_id])
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
        "simulated": [record.simulated for _, _, record in records],
    }
    await connection.execute(query("write_runs"), values)
    steps = [(known.row_id, step) for known in touched.values() for step in known.changed.values()]
    columns: dict[str, list[object]] = {
        "runs": [row_id for row_id, _ in steps],
        "names": [step.name.value for _, step in steps],
        "attempts": [step.attempt for _, step in steps],
        "cycles": [step.cycle for _, step in steps],
        "states": [step.state.value for _, step in steps],
        "since": [step.since for _, step in steps],
        "queued": [step.queued_at for _, step in steps],
        "started": [step.started_at for _, step in steps],
        "ended": [step.ended_at for _, step in steps],
        "agents": [storable(step.agent)[:255] for _, step in steps],
        "errors": [storable(step.error)[:_MAX_ANSWER_TEXT] for _, step in steps],
        "informations": [storable(step.information)[:_MAX_ANSWER_TEXT] for _, step in steps],
    }
    await connection.execute(query("write_steps"), columns)


async def _write_story(connection: Connection, outcomes: Sequence[tuple[Item, _Known, Outcome]]) -> None:
    if not outcomes:
        return
    values: dict[str, list[object]] = {
        "runs": [known.row_id for _, known, _ in outcomes],
        "destinations": [item.message.destination.name for item, _, _ in outcomes],
        "message_ids": [storable(item.message.message_id)[:255] for item, _, _ in outcomes],
        "nf_ids": [storable(item.message.nf_id or "")[:64] for item, _, _ in outcomes],
        "attempts": [_bounded(item.said.attempt) for item, _, _ in outcomes],
        "applied": [outcome.applied for _, _, outcome in outcomes],
        "outcomes": [outcome.story[:_MAX_STORY] for _, _, outcome in outcomes],
        "informations": [storable(item.said.information) for item, _, _ in outcomes],
        "errors": [storable(item.said.error) for item, _, _ in outcomes],
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


def _bounded(number: int | None) -> int | None:
    return number if number is None or abs(number) < 2**31 else None
