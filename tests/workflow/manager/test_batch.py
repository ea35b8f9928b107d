"""One batch, one transaction: what is written, in a real database, without a broker."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from neutronflow.domain.facility import facilities
from neutronflow.domain.messages import destinations as to
from neutronflow.foundation.broker.message import Message, queue
from neutronflow.foundation.ids import new_id
from neutronflow.workflow.manager.batch import Batch, Tally

_numbers = itertools.count(1)


class Desk:
    """A manager's batch, a database, an archive."""

    def __init__(self, conninfo: str, archive: Path) -> None:
        self.conninfo = conninfo
        self.archive = archive
        self.batch = Batch(facilities(archive, {}))

    def message(self, destination: str, body: Mapping[str, object] | bytes, **headers: str) -> Message:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        number = str(next(_numbers))
        return Message(
            destination=queue(destination), body=data, headers=headers, message_id=number, ack_id=number, connection=1
        )

    def ours(self, destination: str, body: Mapping[str, object] | bytes) -> Message:
        return self.message(destination, body, **{"nf-id": new_id()})

    def body(self, run_number: int = 7, **changes: object) -> dict[str, object]:
        return {
            "facility": "sns",
            "instrument": "hys",
            "ipts": "ipts-1",
            "run_number": run_number,
            "data_file": str(self.archive / f"HYS_{run_number}.nxs.h5"),
            **changes,
        }

    def take(self, *messages: Message) -> Tally:
        async def write() -> Tally:
            understood = [self.batch.understand(message) for message in messages]
            connection = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
            async with connection, connection.transaction():
                return await self.batch.write(connection, understood)

        return asyncio.run(write())

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(statement.encode()).fetchall()

    def steps(self) -> Sequence[tuple[Any, ...]]:
        return self.sql("SELECT name, attempt, state FROM step ORDER BY id")


@pytest.fixture
def desk(workflow_database: str, tmp_path: Path) -> Desk:
    return Desk(workflow_database, tmp_path)


def test_data_ready_makes_instrument_experiment_run_steps_story_and_commands(desk: Desk) -> None:
    tally = desk.take(desk.ours(to.POSTPROCESS_DATA_READY, desk.body(host="dtn1")))
    assert tally == Tally(applied=1, commands=2)
    row = desk.sql(
        "SELECT facility, instrument.name, run_number, cycle, state, data_file FROM run JOIN instrument "
        "ON instrument.id = instrument_id"
    )
    assert row == [("SNS", "HYS", 7, 1, "processing", str(desk.archive / "HYS_7.nxs.h5"))]
    assert desk.sql("SELECT experiment.name FROM run JOIN experiment ON experiment.id = experiment_id") == [("IPTS-1",)]
    assert desk.steps() == [("catalog_raw", 1, "queued"), ("reduce", 1, "queued"), ("catalog_reduced", 1, "waiting")]
    assert desk.sql("SELECT destination, applied, outcome FROM event") == [
        (to.POSTPROCESS_DATA_READY, True, "cycle 1 began")
    ]
    commands = desk.sql("SELECT destination, body FROM outbox ORDER BY id")
    assert [destination for destination, _ in commands] == [to.CATALOG_RAW_READY, to.REDUCTION_READY]
    assert json.loads(commands[1][1]) == {
        "facility": "SNS",
        "instrument": "HYS",
        "ipts": "IPTS-1",
        "run_number": 7,
        "data_file": str(desk.archive / "HYS_7.nxs.h5"),
        "host": "dtn1",
        "nf_step": "reduce",
        "nf_attempt": 1,
        "nf_cycle": 1,
    }
    assert desk.sql("SELECT kind, facility, instrument, run_number FROM change") == [("run", "SNS", "HYS", 7)]


def test_a_message_that_comes_again_has_no_second_effect(desk: Desk) -> None:
    ready = desk.ours(to.POSTPROCESS_DATA_READY, desk.body())
    desk.take(ready, ready)
    assert desk.take(ready) == Tally(repeated=1)
    assert desk.sql("SELECT cycle FROM run") == [(1,)]
    assert len(desk.sql("SELECT 1 FROM event")) == 1
    assert len(desk.sql("SELECT 1 FROM outbox")) == 2


def test_two_equal_requests_are_two_wishes(desk: Desk) -> None:
    desk.take(*(desk.message(to.POSTPROCESS_DATA_READY, desk.body()) for _ in range(2)))
    assert desk.sql("SELECT cycle FROM run") == [(2,)]


def test_a_dead_letter_that_comes_again_is_kept_once(desk: Desk) -> None:
    bad = desk.ours(to.REDUCTION_STARTED, b"nonsense")
    desk.take(bad, bad)
    desk.take(bad)
    assert len(desk.sql("SELECT 1 FROM dead_letter")) == 1


def test_answers_of_several_queues_are_applied_as_they_were_sent(desk: Desk) -> None:
    desk.take(desk.ours(to.POSTPROCESS_DATA_READY, desk.body()))
    started = desk.ours(to.REDUCTION_STARTED, desk.body(information="autoreducer1", nf_attempt=1))
    complete = desk.ours(to.REDUCTION_COMPLETE, desk.body(information="autoreducer1", nf_attempt=1))
    assert desk.take(complete, started).applied == 2
    row = desk.sql(
        "SELECT state, agent, queued_at <= started_at AND started_at <= ended_at FROM step WHERE name = 'reduce'"
    )
    assert row == [("complete", "autoreducer1", True)]
    assert desk.sql("SELECT state FROM step WHERE name = 'catalog_reduced'") == [("queued",)]


def test_a_whole_run_in_one_batch_keeps_its_times(desk: Desk) -> None:
    answers = (to.CATALOG_RAW_STARTED, to.CATALOG_RAW_COMPLETE, to.REDUCTION_STARTED, to.REDUCTION_COMPLETE,
               to.REDUCTION_CATALOG_STARTED, to.REDUCTION_CATALOG_COMPLETE)  # fmt: skip
    desk.take(*(desk.ours(name, desk.body()) for name in (to.POSTPROCESS_DATA_READY, *answers)))
    assert desk.sql("SELECT state FROM run") == [("complete",)]
    times = desk.sql("SELECT queued_at, started_at, ended_at FROM step")
    assert len(times) == 3
    assert all(
        isinstance(at, datetime) and at == max(at, *row[:place])
        for row in times
        for place, at in enumerate(row)
        if place
    )


def test_a_date_of_the_far_past_or_the_future_is_not_believed(desk: Desk) -> None:
    for seconds in (-10 * 365 * 86400, 86400):
        moment = int((datetime.now().astimezone() + timedelta(seconds=seconds)).timestamp() * 1000)
        number = (moment << 80) | (7 << 76) | (2 << 62) | abs(seconds)
        text = f"{number:032x}"
        identity = "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])
        desk.take(desk.message(to.POSTPROCESS_DATA_READY, desk.body(), **{"nf-id": identity}))
    assert desk.sql(
        "SELECT bool_and(abs(extract(epoch FROM now() - queued_at)) < 60) FROM step WHERE name = 'reduce'"
    ) == [(True,)]


def test_an_answer_about_an_unknown_run_becomes_a_dead_letter_and_makes_no_run(desk: Desk) -> None:
    desk.take(desk.ours(to.REDUCTION_STARTED, desk.body()))
    ((source, reason),) = desk.sql("SELECT source, reason FROM dead_letter")
    assert source == "manager"
    assert "The run SNS/HYS/7 is not known" in reason
    assert desk.sql("SELECT 1 FROM run") == []


def test_a_data_file_outside_of_the_archive_is_refused_also_behind_a_link(desk: Desk) -> None:
    (desk.archive / "way_out").symlink_to("/")
    (desk.archive / "loop").symlink_to(desk.archive / "loop")
    outside = [
        "/etc/passwd",
        f"{desk.archive}/../x",
        "relative",
        f"{desk.archive}/way_out/etc/passwd",
        f"{desk.archive}/loop/x",
    ]
    for destination in (to.POSTPROCESS_DATA_READY, to.REDUCTION_REQUEST, to.CATALOG_REQUEST):
        for data_file in outside:
            assert desk.take(desk.ours(destination, desk.body(data_file=data_file))).dead == 1, data_file
    assert desk.sql("SELECT DISTINCT 1 FROM dead_letter WHERE reason NOT LIKE '%data_file%'") == []
    assert desk.sql("SELECT 1 FROM run") == []


def test_a_dead_letter_holds_the_body_byte_by_byte(desk: Desk) -> None:
    body = bytes(range(256)) * 3
    headers = {
        "nf-id": new_id(),
        "odd": "a\0b",
        "nf-source": "autoreducer1",
        "nf-destination": "/queue/REDUCTION.DATA_READY",
    }
    desk.take(
        desk.message(to.DEADLETTER, body, **headers, **{"nf-reason": "it is not JSON"}),
        desk.message(to.CATALOG_ERROR, body),
    )
    rows = desk.sql("SELECT source, destination, body, headers ->> 'odd' FROM dead_letter ORDER BY id")
    assert [(source, name, bytes(data), odd) for source, name, data, odd in rows] == [
        ("autoreducer1", to.REDUCTION_READY, body, "a\ufffdb"),
        ("manager", to.CATALOG_ERROR, body, None),
    ]


def test_the_experiment_of_a_later_message_replaces_that_of_the_run(desk: Desk) -> None:
    desk.take(desk.ours(to.POSTPROCESS_DATA_READY, desk.body(ipts="")))
    assert desk.sql("SELECT experiment_id FROM run") == [(None,)]
    desk.take(desk.ours(to.REDUCTION_REQUEST, desk.body(data_file="", ipts="IPTS-2")))
    desk.take(desk.ours(to.CATALOG_REQUEST, desk.body(data_file="", ipts="")))
    assert desk.sql("SELECT experiment.name FROM run JOIN experiment ON experiment.id = experiment_id") == [("IPTS-2",)]
    assert json.loads(desk.sql("SELECT body FROM outbox ORDER BY id DESC LIMIT 1")[0][0])["ipts"] == "IPTS-2"


def test_a_large_batch_needs_few_statements(desk: Desk) -> None:
    executed = 0
    original = psycopg.AsyncConnection.execute

    async def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal executed
        executed += 1
        return await original(self, *args, **kwargs)

    messages = [desk.ours(to.POSTPROCESS_DATA_READY, desk.body(number)) for number in range(1, 201)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", counting)
        tally = desk.take(*messages)
    assert tally.applied == 200
    assert executed <= 20


def test_managers_that_work_on_the_same_new_runs_wait_for_each_other_and_lose_nothing(desk: Desk) -> None:
    async def one(numbers: Sequence[int]) -> None:
        understood = [
            desk.batch.understand(desk.ours(to.POSTPROCESS_DATA_READY, desk.body(number, instrument=f"I{number % 3}")))
            for number in numbers
        ]
        connection = await psycopg.AsyncConnection.connect(desk.conninfo, autocommit=True)
        async with connection, connection.transaction():
            await desk.batch.write(connection, understood)

    async def all_at_once() -> None:
        numbers = range(1, 41)
        await asyncio.gather(*(one(order) for order in (numbers, list(reversed(numbers)), numbers[20:], numbers[:20])))

    asyncio.run(all_at_once())
    assert desk.sql("SELECT count(*), min(cycle), max(cycle) FROM run") == [(40, 3, 3)]
