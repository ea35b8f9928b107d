"""What the stream service says of runs (APP.SMS): they begin to exist, end, and wait for their file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from neutronflow.domain.facility import BadIdentifier, Facilities, RunKey
from neutronflow.domain.messages.combus import Sender, is_simulated
from neutronflow.domain.messages.run import BadMessage, decode_object
from neutronflow.domain.workflow.acquisition import News, told
from neutronflow.domain.workflow.states import RunState
from neutronflow.foundation.broker.message import Message
from neutronflow.store.connection import Connection
from neutronflow.store.named import query, run_columns
from neutronflow.store.seen import claim, message_key
from neutronflow.store.text import storable

MAX_BYTES: Final = 64 * 1024
_LONGEST_REASON: Final = 2000


@dataclass(frozen=True, slots=True)
class RunNews:
    """A checked message about a run of the instrument whose topic it came by."""

    message: Message
    run: RunKey
    reason: str
    experiment: str
    simulated: bool
    key: str


@dataclass(slots=True)
class _Known:
    row_id: int
    cycle: int
    state: RunState
    experiment: str
    simulated: bool = False


def understand(message: Message, facilities: Facilities) -> RunNews:
    """The message, checked. Whose run it is says the topic: the body names the beam port. Raises ``NeutronflowError``."""
    sender = Sender.of_topic(message.destination.name, facilities)
    values = decode_object(message.body, MAX_BYTES)
    number, reason = _text(values, "run_number", 20), _text(values, "reason", _LONGEST_REASON)
    if not number.isascii() or not number.isdigit():
        raise BadMessage(detail=f"'run_number' is no run number: {number!r}")
    if not reason:
        raise BadMessage(detail="it gives no reason")
    run = facilities.run_key(sender.facility, sender.instrument, int(number))
    experiment = ""
    # A run without a (proper) experiment is one, too.
    with contextlib.suppress(BadIdentifier):
        experiment = facilities.experiment(run.facility, _text(values, "ipts", 80))
    return RunNews(message, run, reason, experiment, is_simulated(values), message_key(message))


def _text(values: dict[str, Any], key: str, longest: int) -> str:
    value = values.get(key, "")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadMessage(detail=f"'{key}' is not text")
    try:
        return storable(str(value)[:longest]).strip()
    except ValueError as error:  # a number of thousands of digits
        raise BadMessage(detail=f"'{key}' is too large a number") from error


async def store(connection: Connection, news: Sequence[RunNews]) -> None:
    """Write what follows from these messages, once each; the caller commits.

    Rows are made and locked in the manager's order. Whoever comes second to a run finds what the first has written: its cycle
    says whether the state is still the beamline's.
    """
    claimed = await claim(connection, (one.key for one in news))
    fresh = list({one.key: one for one in news if one.key in claimed}.values())
    if not fresh:
        return
    keys = dict.fromkeys(one.run for one in fresh)
    cursor = await connection.execute(query("missing_runs"), run_columns(keys))
    missing = [RunKey(*row) for row in await cursor.fetchall()]
    if missing:
        names = {"facilities": [run.facility for run in missing], "names": [run.instrument for run in missing]}
        await connection.execute(query("ensure_instruments"), names)
        await connection.execute(query("ensure_runs"), run_columns(missing))
    runs = await _locked(connection, list(keys))
    experiments = sorted({(one.run.facility, one.experiment) for one in fresh if one.experiment})
    if experiments:
        columns = {"facilities": [one for one, _ in experiments], "names": [one for _, one in experiments]}
        await connection.execute(query("ensure_experiments"), columns)
    outcomes = []
    for one in fresh:
        known = runs[one.run]
        outcome = told(known.state, known.cycle, one.reason)
        known.state = outcome.state
        known.experiment = known.experiment or one.experiment
        known.simulated |= one.simulated
        outcomes.append((one, known, outcome))
    await _write_runs(connection, runs)
    await _write_story(connection, outcomes)
    await connection.execute(query("announce_runs"), run_columns(keys))


async def _locked(connection: Connection, keys: Sequence[RunKey]) -> dict[RunKey, _Known]:
    cursor = await connection.execute(query("lock_runs"), run_columns(keys))
    ids = [row[0] for row in await cursor.fetchall()]
    # Read after the lock was had: what the manager has written is seen.
    cursor = await connection.execute(query("read_runs"), {"ids": ids})
    return {
        RunKey(facility, instrument, number): _Known(row_id, cycle, RunState(state), experiment)
        for row_id, facility, instrument, number, cycle, state, _, experiment in await cursor.fetchall()
    }


async def _write_runs(connection: Connection, runs: dict[RunKey, _Known]) -> None:
    columns: dict[str, list[object]] = {
        "ids": [known.row_id for known in runs.values()],
        "states": [known.state.value for known in runs.values()],
        "simulated": [known.simulated for known in runs.values()],
        "facilities": [run.facility for run in runs],
        "experiments": [known.experiment for known in runs.values()],
    }
    await connection.execute(query("write_acquisitions"), columns)


async def _write_story(connection: Connection, outcomes: Sequence[tuple[RunNews, _Known, News]]) -> None:
    columns: dict[str, list[object]] = {
        "runs": [known.row_id for _, known, _ in outcomes],
        "destinations": [one.message.destination.name[:255] for one, _, _ in outcomes],
        "message_ids": [storable(one.message.message_id)[:255] for one, _, _ in outcomes],
        "nf_ids": [storable(one.message.nf_id or "")[:64] for one, _, _ in outcomes],
        "attempts": [None for _ in outcomes],
        "applied": [outcome.applied for _, _, outcome in outcomes],
        "outcomes": [outcome.story for _, _, outcome in outcomes],
        "informations": [one.reason for one, _, _ in outcomes],
        "errors": ["" for _ in outcomes],
    }
    await connection.execute(query("record_events"), columns)
