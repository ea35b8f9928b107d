"""What the stream service says of runs, in a real database, alone and in races with the manager."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from neutronflow.domain.facility import facilities
from neutronflow.domain.messages import destinations as to
from neutronflow.foundation.broker.message import Message, Outgoing
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.workflow.listener.acquisition import store, understand
from neutronflow.workflow.manager.batch import Batch
from tests.support.bus import sms
from tests.support.services import eventually, outgoing

_numbers = itertools.count(1)
RUNS = (
    "SELECT facility, instrument.name, run_number, state, cycle, simulated FROM run JOIN instrument "
    "ON instrument.id = instrument_id ORDER BY run_number"
)


def received(one: Outgoing) -> Message:
    number = str(next(_numbers))
    return Message(destination=one.destination, body=one.body, headers={"nf-id": one.nf_id}, message_id=number,
                   ack_id="", connection=1)  # fmt: skip


class Desk:
    """A listener's and a manager's hand on one database."""

    def __init__(self, conninfo: str, archive: Path) -> None:
        self.conninfo = conninfo
        self.facilities = facilities(archive, {})
        self.batch = Batch(self.facilities)
        self.archive = archive

    def ready(self, run_number: int = 7, **more: object) -> Outgoing:
        body = {"facility": "SNS", "instrument": "HYS", "ipts": "IPTS-2", "run_number": run_number,
                "data_file": str(self.archive / f"HYS_{run_number}.nxs.h5"), **more}  # fmt: skip
        return outgoing(to.POSTPROCESS_DATA_READY, body)

    async def hear(self, *messages: Outgoing) -> None:
        connection = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
        async with connection, connection.transaction():
            await store(connection, [understand(received(one), self.facilities) for one in messages])

    async def manage(self, *messages: Outgoing) -> None:
        connection = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
        async with connection, connection.transaction():
            await self.batch.write(connection, [self.batch.understand(received(one)) for one in messages])

    def heard(self, *messages: Outgoing) -> None:
        asyncio.run(self.hear(*messages))

    def managed(self, *messages: Outgoing) -> None:
        asyncio.run(self.manage(*messages))

    def sql(self, statement: str) -> Sequence[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(statement.encode()).fetchall()

    def run(self) -> tuple[Any, ...]:
        (row,) = self.sql(RUNS)
        return row


@pytest.fixture
def desk(workflow_database: str, tmp_path: Path) -> Desk:
    return Desk(workflow_database, tmp_path)


def test_a_run_begins_to_exist_with_its_start_and_is_translated_after_its_end(desk: Desk) -> None:
    desk.heard(sms(7, "SMS run started"))
    assert desk.run() == ("SNS", "HYS", 7, "acquiring", 0, False)
    desk.heard(sms(7, "SMS run paused"), sms(7, "SMS run resumed"), sms(7, "SMS run stopped"))
    assert desk.run() == ("SNS", "HYS", 7, "translating", 0, False)
    assert desk.sql("SELECT destination, information, applied, outcome FROM event ORDER BY id") == [
        ("SNS.HYS.APP.SMS", "SMS run started", True, "acquiring"),
        ("SNS.HYS.APP.SMS", "SMS run paused", True, ""),
        ("SNS.HYS.APP.SMS", "SMS run resumed", True, ""),
        ("SNS.HYS.APP.SMS", "SMS run stopped", True, "acquiring → translating"),
    ]
    assert desk.sql("SELECT name FROM experiment JOIN run ON experiment.id = experiment_id") == [("IPTS-1",)]
    assert desk.sql("SELECT DISTINCT kind, facility, instrument, run_number FROM change") == [("run", "SNS", "HYS", 7)]


def test_a_message_that_comes_twice_is_told_once(desk: Desk) -> None:
    once = sms(7, "SMS run started")
    desk.heard(once, once)
    desk.heard(once)
    assert desk.sql("SELECT count(*) FROM event") == [(1,)]


def test_the_file_of_a_run_takes_it_over(desk: Desk) -> None:
    desk.heard(sms(7, "SMS run started"), sms(7, "SMS run stopped"))
    desk.managed(desk.ready())
    assert desk.run() == ("SNS", "HYS", 7, "processing", 1, False)
    assert desk.sql("SELECT experiment.name FROM experiment JOIN run ON experiment.id = experiment_id") == [("IPTS-2",)]
    desk.heard(sms(7, "SMS run started"), sms(7, "SMS run stopped"), sms(7, "Translation Succeeded"))
    assert desk.run()[3:5] == ("processing", 1)
    assert desk.sql("SELECT applied, outcome FROM event ORDER BY id DESC LIMIT 3") == [
        (True, ""), (False, "the run is in the workflow already"), (False, "the run is in the workflow already"),
    ]  # fmt: skip


def test_news_of_a_run_that_the_manager_knew_first_do_not_move_it_back(desk: Desk) -> None:
    desk.managed(desk.ready())
    since = desk.sql("SELECT state_since FROM run")
    desk.heard(sms(7, "SMS run started", ipts="IPTS-99"))
    assert desk.run()[3:5] == ("processing", 1)
    assert desk.sql("SELECT state_since FROM run") == since
    assert desk.sql("SELECT experiment.name FROM experiment JOIN run ON experiment.id = experiment_id") == [("IPTS-2",)]


def test_simulated_runs_are_marked_by_either_and_stay_so(desk: Desk) -> None:
    desk.heard(sms(7, "SMS run started", simulated="true"), sms(8, "SMS run started"))
    desk.managed(desk.ready(7), desk.ready(8), desk.ready(9, simulated="true"), desk.ready(10, simulated="false"))
    desk.heard(sms(9, "SMS run stopped"))
    assert [row[5] for row in desk.sql(RUNS)] == [True, False, True, False]


def test_a_run_without_a_proper_experiment_is_one_too(desk: Desk) -> None:
    desk.heard(sms(7, "SMS run started", ipts=""), sms(8, "SMS run started", ipts="<script>"))
    assert [row[2] for row in desk.sql(RUNS)] == [7, 8]
    assert desk.sql("SELECT count(*) FROM experiment") == [(0,)]


BAD = [sms(number, "SMS run started") for number in ("-5", "0", "1.5", "one", "", "²", 2**31, 10**30)]
BAD += [sms(7, ""), sms(7, "x", instrument="../ETC"), sms(7, "x", instrument="A.B")]


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_news_of_a_run_is_refused(desk: Desk, message: Outgoing) -> None:
    with pytest.raises(NeutronflowError):
        understand(received(message), desk.facilities)


@pytest.mark.parametrize("turn", range(4))
def test_races_with_the_manager_lose_nothing(desk: Desk, turn: int) -> None:
    """Listener and manager speak of the same new runs of a new instrument at the same time, in different orders."""
    runs = list(range(1, 26))

    async def race() -> None:
        news = [sms(number, reason) for number in reversed(runs) for reason in ("SMS run started", "SMS run stopped")]
        ready = [desk.ready(number) for number in runs]
        if turn % 2:
            ready.reverse()
        for place in range(0, len(runs), 5):
            await asyncio.gather(
                desk.hear(*news[2 * place : 2 * place + 10]), desk.manage(*ready[place : place + 5]),
                desk.hear(*news[2 * place + 10 : 2 * place + 20]), desk.manage(*ready[place + 5 : place + 10]),
            )  # fmt: skip

    asyncio.run(race())
    assert [row[2:4] for row in desk.sql(RUNS)] == [(number, "processing") for number in runs]
    assert {row[4] for row in desk.sql(RUNS)} <= {1, 2}
    ends = "SELECT count(*) FROM event WHERE destination LIKE '%APP.SMS'"
    assert desk.sql(ends.replace("%", "%%"))[0][0] >= 50


def test_a_listener_that_waits_for_the_managers_insert_sees_its_cycle(desk: Desk) -> None:
    """The worst order: the manager has made the run and not committed yet when the listener wants to make it."""

    blocked = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"

    async def race() -> None:
        connection = await psycopg.AsyncConnection.connect(desk.conninfo, autocommit=True)
        async with connection, connection.transaction():
            await desk.batch.write(connection, [desk.batch.understand(received(desk.ready()))])
            listener = asyncio.create_task(desk.hear(sms(7, "SMS run started"), sms(7, "SMS run stopped")))
            await asyncio.to_thread(eventually, lambda: desk.sql(blocked), "the listener waits")
            assert not listener.done()
        await listener

    asyncio.run(race())
    assert desk.run() == ("SNS", "HYS", 7, "processing", 1, False)
    assert desk.sql("SELECT applied FROM event WHERE destination = 'SNS.HYS.APP.SMS'") == [(False,), (False,)]
