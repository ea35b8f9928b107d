"""The listener as a process, with a real broker and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neutronflow.domain.messages import destinations as to
from neutronflow.foundation.broker.message import Outgoing, topic
from neutronflow.foundation.broker.session import Session
from tests.support.postgres import running_cluster
from tests.support.services import Services, eventually, outgoing, services
from tests.workflow.hostile import BODIES

REPORTS = "SELECT log FROM job_report JOIN run ON run.id = run_id WHERE run_number = %s"


@pytest.fixture(scope="module", autouse=True)
def listener(place: Services) -> Iterator[subprocess.Popen[bytes]]:
    place.sql("INSERT INTO instrument (facility, name) VALUES ('SNS', 'HYS') RETURNING id")
    process = place.start("listener", NEUTRONFLOW_LISTENER__UNKNOWN_RUN_S="2", NEUTRONFLOW_LISTENER__PING_EVERY_S="0.2")
    yield process
    assert place.end(process) == 0


def add_run(place: Services, run_number: int) -> None:
    insert = (
        "INSERT INTO run (instrument_id, run_number, state) SELECT id, %s, 'processing' FROM instrument RETURNING id"
    )
    place.sql(insert, run_number)


def report(run_number: int, **changes: object) -> dict[str, object]:
    return {
        "facility": "SNS",
        "instrument": "HYS",
        "run_number": run_number,
        "step": "reduce",
        "attempt": 1,
        "agent": "autoreducer1",
        "started": 1_780_000_000.25,
        "ended": 1_780_000_002.5,
        "exit_code": 0,
        "log": "reading\nwriting\n",
        "files": [{"path": "/SNS/HYS/x.csv", "size": 10, "kind": "reduced"}],
        "cpu_s": 1.5,
        "max_rss_bytes": 2**33,
        **changes,
    }


def tell(place: Services, destination: str, *bodies: bytes) -> None:
    place.publish(*(Outgoing(destination=topic(destination), body=body, persistent=False) for body in bodies))


def status(place: Services, name: str) -> Callable[[], list[tuple[Any, ...]]]:
    return lambda: place.sql("SELECT pid, role, status FROM service_status WHERE name = %s", name)


def test_a_job_report_is_stored_whole_and_pages_are_told(place: Services) -> None:
    add_run(place, 1)
    place.publish(outgoing(to.JOB_REPORT, report(1)))
    eventually(lambda: place.sql(REPORTS, 1), "the report")
    columns = (
        "step, attempt, agent, extract(epoch FROM ended_at - started_at), exit_code, cpu_s, max_rss_bytes, log, files"
    )
    ((*values, log, files),) = place.sql(
        f"SELECT {columns} FROM job_report JOIN run ON run.id = run_id WHERE run_number = 1"
    )
    assert values == ["reduce", 1, "autoreducer1", pytest.approx(2.25), 0, 1.5, 2**33]
    assert (log, files) == ("reading\nwriting\n", [{"path": "/SNS/HYS/x.csv", "size": 10, "kind": "reduced"}])
    assert place.sql("SELECT 1 FROM change WHERE kind = 'run' AND run_number = 1") == [(1,)]


def test_a_report_that_comes_before_its_run_waits_for_it(place: Services) -> None:
    add_run(place, 3)
    place.publish(outgoing(to.JOB_REPORT, report(2)), outgoing(to.JOB_REPORT, report(3)))
    eventually(lambda: place.sql(REPORTS, 3), "the other is not kept back")
    assert place.sql(REPORTS, 2) == []
    add_run(place, 2)
    eventually(lambda: place.sql(REPORTS, 2), "the first is stored, too")


def test_a_report_of_a_run_that_never_comes_is_kept_as_a_dead_letter(place: Services) -> None:
    place.publish(outgoing(to.JOB_REPORT, report(4_000_000)))
    dead = "SELECT reason FROM dead_letter WHERE convert_from(body, 'UTF8') LIKE '%%4000000%%' AND source = 'listener'"
    ((reason,),) = eventually(lambda: place.sql(dead), "the dead letter")
    assert reason == "The run SNS/HYS/4000000 of this job report is not known."


def test_a_report_that_comes_twice_is_stored_once(place: Services) -> None:
    add_run(place, 5)
    one, other = outgoing(to.JOB_REPORT, report(5)), outgoing(to.JOB_REPORT, report(5, log="another"))
    place.publish(one, one, other)
    eventually(lambda: len(place.sql(REPORTS, 5)) == 2, "both, once each")


BAD_REPORTS: dict[str, dict[str, object]] = {
    "an unknown step": report(6, step="drop table"),
    "a job that ends before it begins": report(6, started=2.0, ended=1.0),
    "a time beyond all times": report(6, ended=1e300),
    "text as time": report(6, started="yesterday"),
    "an exit code beyond bounds": report(6, exit_code=2**40),
    "memory beyond bounds": report(6, max_rss_bytes=2**70),
    "a long agent": report(6, agent="x" * 300),
    "thousands of files": report(6, files=[{"path": "/x", "size": 1}] * 5000),
    "files that are none": report(6, files=["x"]),
}


def test_hostile_reports_become_dead_letters_and_good_ones_are_stored(place: Services) -> None:
    add_run(place, 6)
    bodies = [*BODIES.values(), *(json.dumps(values).encode() for values in BAD_REPORTS.values())]
    odd = report(6, log="a\0b\ud800", files=[{"path": "/x\0y", "size": 1, "kind": "\0"}])
    place.publish(*(outgoing(to.JOB_REPORT, body) for body in bodies), outgoing(to.JOB_REPORT, report(6, log="x" * 10**6)),
                  outgoing(to.JOB_REPORT, {**odd, "log": "a\0b"}))  # fmt: skip
    eventually(lambda: len(place.sql(REPORTS, 6)) == 2, "the good ones")
    logs = sorted(len(log) for (log,) in place.sql(REPORTS, 6))
    assert logs[0] == 3
    assert 250_000 < logs[1] < 300_000
    kept = {
        bytes(body): reason
        for body, reason in place.sql("SELECT body, reason FROM dead_letter WHERE source = 'listener'")
    }
    assert [body[:80] for body in bodies if body not in kept] == []
    assert [reason for reason in kept.values() if "could not be stored" in reason] == []


def test_heartbeats_are_stored_and_a_changed_status_is_told_at_once(place: Services) -> None:
    tell(place, to.TOPIC_WORKFLOW_STATUS, b'{"src_name": "workflowmgr", "status": "0", "pid": "17"}')
    eventually(lambda: status(place, "workflowmgr")() == [("17", "", "0")], "the heartbeat")
    told = place.sql("SELECT max(id) FROM change WHERE kind = 'service'")[0][0]
    tell(place, to.TOPIC_WORKFLOW_STATUS, b'{"src_name": "workflowmgr", "status": "1", "pid": "17"}')
    newer = "SELECT 1 FROM change WHERE kind = 'service' AND id > %s"
    eventually(lambda: place.sql(newer, told), "pages are told")
    assert status(place, "workflowmgr")() == [("17", "", "1")]


def test_hostile_heartbeats_are_dropped_and_good_ones_stored(place: Services) -> None:
    for name in (to.TOPIC_AGENT_STATUS, to.TOPIC_ACK):
        tell(place, name, *BODIES.values())
    tell(place, to.TOPIC_AGENT_STATUS, b'{"src_name": "a1", "role": "postprocessing", "status": "0", "pid": 4}')
    eventually(lambda: status(place, "a1")() == [("4", "postprocessing", "0")], "the good one")


def test_agents_are_pinged_and_their_answers_stored(place: Services) -> None:
    async def answer() -> dict[str, object]:
        async with Session.from_settings(place.settings, user="agent") as session, asyncio.timeout(10):
            pings = await session.subscribe([topic(to.TOPIC_PING)])
            ping: dict[str, object] = json.loads((await pings.get()).body)
            body = json.dumps(
                {**ping, "src_name": "ponger", "pid": "9", "role": "postprocessing", "status": "0"}
            ).encode()
            name = str(ping["reply_to"]).removeprefix("/topic/")
            await session.publish(Outgoing(destination=topic(name), body=body, persistent=False))
            return ping

    ping = asyncio.run(answer())
    assert ping["reply_to"] == "/topic/SNS.COMMON.STATUS.ACK"
    assert isinstance(ping["request_time"], float)
    eventually(status(place, "ponger"), "the answer")


def test_the_listener_tells_of_itself(place: Services) -> None:
    eventually(status(place, "dasmon_listener"), "its own heartbeat")


def test_the_listener_is_not_deaf_after_the_loss_of_postgresql_or_the_broker(tmp_path: Path) -> None:
    with (
        running_cluster(synchronous_commit="on") as server,
        services(tmp_path, server.conninfo("workflow"), NEUTRONFLOW_SECRET_DB_SUPERUSER="trusted") as place,
    ):
        assert place.run("database", "prepare").returncode == 0
        place.sql("INSERT INTO instrument (facility, name) VALUES ('SNS', 'HYS') RETURNING id")
        add_run(place, 1)
        broker = place.start("broker")
        process = place.start("listener")
        server.stop()
        tell(place, to.TOPIC_WORKFLOW_STATUS, *(b'{"src_name": "m%d"}' % number for number in range(100)))
        place.publish(*(outgoing(to.JOB_REPORT, report(1)) for _ in range(100)))
        server.start()
        eventually(lambda: len(place.sql(REPORTS, 1)) == 100, "the reports are stored after the return of PostgreSQL")
        eventually(status(place, "m99"), "the heartbeats, too")
        place.end(broker, signal.SIGKILL)
        place.start("broker")
        place.publish(outgoing(to.JOB_REPORT, report(1)))
        eventually(lambda: len(place.sql(REPORTS, 1)) == 101, "reports are stored after the return of the broker")

        def heard() -> list[tuple[Any, ...]]:
            tell(place, to.TOPIC_WORKFLOW_STATUS, b'{"src_name": "after"}')
            return status(place, "after")()

        eventually(heard, "heartbeats are heard after the return of the broker")
        assert place.end(process) == 0
