"""Job reports: checked, then stored beside their runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from neutronflow.domain.facility import Facilities, RunKey
from neutronflow.domain.messages.report import MAX_LOG_BYTES, JobReport, bounded_log, decode_job_report
from neutronflow.domain.messages.run import BadMessage
from neutronflow.domain.workflow.states import StepName
from neutronflow.foundation.broker.message import Message
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.store.connection import Connection
from neutronflow.store.deadletters import DeadLetter, keep_dead_letters
from neutronflow.store.named import query, run_columns
from neutronflow.store.seen import claim, message_key
from neutronflow.store.text import storable

#: Room for the log, escaped at its worst, and for the files.
MAX_BYTES = 8 * MAX_LOG_BYTES
_MAX_FILES = 1000
_MAX_AGENT = 255
#: The year 3000: what lies beyond is no time at which a job has run.
_LAST_TIME = 32_503_680_000.0


@dataclass(frozen=True, slots=True)
class Report:
    """A checked job report on its way into the database."""

    message: Message
    run: RunKey
    said: JobReport
    key: str
    came: float = field(default_factory=time.monotonic)


def understand(message: Message, facilities: Facilities) -> Report | DeadLetter:
    """The message as a checked report, or as a dead letter."""
    try:
        if len(message.body) > MAX_BYTES:
            raise BadMessage(detail=f"it has {len(message.body)} bytes, more than {MAX_BYTES}")
        said = decode_job_report(message.body)
        run = facilities.run_key(said.facility, said.instrument, said.run_number)
        _check(said)
    except NeutronflowError as error:
        return DeadLetter.of(message, "listener", str(error))
    return Report(message, run, said, message_key(message))


def _check(said: JobReport) -> None:
    """What the types do not say. Raises :class:`BadMessage`."""
    if said.step not in list(StepName):
        raise BadMessage(detail=f"there is no step {said.step[:40]!r}")
    if not 0 <= said.started <= said.ended <= _LAST_TIME:
        raise BadMessage(detail=f"a job cannot last from {said.started:g} to {said.ended:g}")
    if len(said.agent) > _MAX_AGENT:
        raise BadMessage(detail=f"'agent' is longer than {_MAX_AGENT} characters")
    if len(said.files) > _MAX_FILES:
        raise BadMessage(detail=f"it names {len(said.files)} files, more than {_MAX_FILES}")
    for name, number, bits in (("attempt", said.attempt, 31), ("exit_code", said.exit_code, 31),
                               ("max_rss_bytes", said.max_rss_bytes, 63)):  # fmt: skip
        if number is not None and abs(number) >= 1 << bits:
            raise BadMessage(detail=f"'{name}' is too large: {number}")


async def store(connection: Connection, understood: Sequence[Report | DeadLetter]) -> list[Report]:
    """Store reports and dead letters once each; the caller commits. Those whose run is not known yet are given back."""
    reports = [one for one in understood if isinstance(one, Report)]
    missing = await _missing_runs(connection, reports)
    waiting = [one for one in reports if one.run in missing]
    rest = [one for one in understood if isinstance(one, DeadLetter) or one.run not in missing]
    claimed = await claim(connection, (one.key for one in rest))
    new = {one.key: one for one in rest if one.key in claimed}.values()
    await keep_dead_letters(connection, [one for one in new if isinstance(one, DeadLetter)])
    await _insert(connection, [one for one in new if isinstance(one, Report)])
    return waiting


async def _missing_runs(connection: Connection, reports: Iterable[Report]) -> set[RunKey]:
    wanted = run_columns(dict.fromkeys(one.run for one in reports))
    cursor = await connection.execute(query("missing_runs"), wanted)
    return {RunKey(*row) for row in await cursor.fetchall()}


async def _insert(connection: Connection, reports: Sequence[Report]) -> None:
    if not reports:
        return
    said = [one.said for one in reports]
    # Agents cut their logs; whoever does not is cut here.
    logs = [bounded_log(storable(one.log)) for one in said]
    values: dict[str, list[object]] = {
        **run_columns(one.run for one in reports),
        "steps": [one.step for one in said],
        "attempts": [one.attempt for one in said],
        "agents": [storable(one.agent) for one in said],
        "started": [one.started for one in said],
        "ended": [one.ended for one in said],
        "exit_codes": [one.exit_code for one in said],
        "cpu": [one.cpu_s for one in said],
        "rss": [one.max_rss_bytes for one in said],
        "logs": [log for log, _ in logs],
        "truncated": [one.log_truncated or cut for one, (_, cut) in zip(said, logs, strict=True)],
        "files": [_files(one) for one in said],
    }
    await connection.execute(query("store_job_reports"), values)
    await connection.execute(query("announce_runs"), run_columns(dict.fromkeys(one.run for one in reports)))


def _files(said: JobReport) -> str:
    files = [{**msgspec.to_builtins(one), "path": storable(one.path), "kind": storable(one.kind)} for one in said.files]
    return json.dumps(files)
