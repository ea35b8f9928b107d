"""The manager as a process, with a real broker and a real PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neutronflow.domain.messages import destinations as to
from neutronflow.foundation.broker.message import Outgoing
from tests.support.postgres import running_cluster
from tests.support.services import Services, eventually, outgoing, services
from tests.workflow.hostile import BODIES

DEAD = "SELECT body, reason FROM dead_letter WHERE destination = %s"


@pytest.fixture
def manager(place: Services) -> Iterator[subprocess.Popen[bytes]]:
    process = place.start("manager")
    yield process
    if process.poll() is None:
        assert place.end(process) == 0


def ready(place: Services, numbers: range) -> list[Outgoing]:
    return [outgoing(to.POSTPROCESS_DATA_READY, place.body(number)) for number in numbers]


def test_a_run_goes_through_its_whole_cycle(place: Services, manager: object) -> None:
    body = place.body(1, host="dtn1")
    place.publish(outgoing(to.POSTPROCESS_DATA_READY, body))
    answers = [
        (to.CATALOG_RAW_READY, [to.CATALOG_RAW_STARTED, to.CATALOG_RAW_COMPLETE]),
        (to.REDUCTION_READY, [to.REDUCTION_STARTED, to.REDUCTION_COMPLETE]),
        (to.REDUCTION_CATALOG_READY, [to.REDUCTION_CATALOG_STARTED, to.REDUCTION_CATALOG_COMPLETE]),
    ]
    for command, replies in answers:
        (message,) = place.collect([command], 1)
        said = json.loads(message.body)
        assert (said["host"], said["nf_attempt"], said["nf_cycle"], said["facility"]) == ("dtn1", 1, 1, "SNS")
        for reply in replies:
            place.publish(outgoing(reply, {**said, "information": "autoreducer1"}))
    state = "SELECT state FROM run WHERE run_number = 1"
    eventually(lambda: place.sql(state) == [("complete",)], "the run is complete")
    steps = place.sql("SELECT step.state, agent, attempt FROM step JOIN run ON run.id = run_id WHERE run_number = 1")
    assert steps == [("complete", "autoreducer1", 1)] * 3
    assert place.sql("SELECT count(*) FROM event JOIN run ON run.id = run_id WHERE run_number = 1") == [(7,)]
    assert place.sql("SELECT * FROM outbox") == []


def test_a_killed_manager_loses_nothing_and_does_nothing_twice(place: Services) -> None:
    place.publish(*ready(place, range(10_000, 11_000)))
    count = "SELECT count(*) FROM run WHERE run_number BETWEEN 10000 AND 10999"
    for goal in (50, 200, 400):
        # In batches of 20, so that it dies in the midst of them.
        process = place.start("manager", NEUTRONFLOW_MANAGER__BATCH="20")
        eventually(lambda goal=goal: place.sql(count)[0][0] >= goal, "some are applied")  # type: ignore[misc]
        place.end(process, signal.SIGKILL)
        assert place.sql(count)[0][0] < 1000, "it was killed in the midst of its work"
    process = place.start("manager")
    eventually(
        lambda: place.sql(count) == [(1000,)] and not place.sql("SELECT 1 FROM outbox"), "all are applied and sent"
    )
    assert place.sql("SELECT run_number FROM run WHERE run_number BETWEEN 10000 AND 10999 AND cycle <> 1") == []
    commands: dict[tuple[str, int], set[str | None]] = {}
    while len(commands) < 2000:
        for message in place.collect([to.CATALOG_RAW_READY, to.REDUCTION_READY], 2000 - len(commands)):
            number = json.loads(message.body)["run_number"]
            commands.setdefault((message.destination.name, number), set()).add(message.nf_id)
    # One may be published twice (its receipt was lost with the manager), but then under the same identity.
    assert all(len(identities) == 1 for identities in commands.values())
    assert place.end(process) == 0


def test_hostile_messages_become_dead_letters_and_good_ones_are_applied(place: Services, manager: object) -> None:
    bad = [
        outgoing(name, body) for name in (to.POSTPROCESS_DATA_READY, to.REDUCTION_STARTED) for body in BODIES.values()
    ]
    place.publish(*bad, outgoing(to.POSTPROCESS_DATA_READY, place.body(2)))
    eventually(lambda: place.sql("SELECT 1 FROM run WHERE run_number = 2"), "the good one is applied")
    eventually(lambda: len(place.sql(DEAD, to.REDUCTION_STARTED)) >= len(BODIES), "the last bad ones are kept")
    for name in (to.POSTPROCESS_DATA_READY, to.REDUCTION_STARTED):
        # Nothing stays in the queues: what is not among the dead letters now will never be.
        kept = {bytes(body): reason for body, reason in place.sql(DEAD, name)}
        assert [what for what, body in BODIES.items() if body not in kept] == []
        assert [reason for reason in kept.values() if not reason or "could not be applied" in reason] == []
    assert place.sql("SELECT count(*) FROM run WHERE run_number NOT BETWEEN 1 AND 20000") == [(0,)]


def test_odd_headers_hurt_nobody(place: Services, manager: object) -> None:
    odd = [{"nf-id": "x" * 5000}, {"nf-id": "a:b\n"}, {"nf-id": ""}, {"nf-reason": "\\"}, {"nf-id": "ü" * 64}]
    for number, headers in enumerate(odd, start=10):
        place.publish(outgoing(to.POSTPROCESS_DATA_READY, place.body(number), headers))
    count = "SELECT count(*) FROM run WHERE run_number BETWEEN 10 AND 14"
    eventually(lambda: place.sql(count) == [(5,)], "all five are applied")


def test_dead_letters_of_agents_are_kept_with_their_reason(place: Services, manager: object) -> None:
    headers = {
        "nf-reason": "it is not JSON",
        "nf-source": "autoreducer7",
        "nf-destination": "/queue/REDUCTION.DATA_READY",
    }
    place.publish(outgoing(to.DEADLETTER, b"\x00\xff raw", headers))
    query = "SELECT destination, reason, body FROM dead_letter WHERE source = 'autoreducer7'"
    ((destination, reason, body),) = eventually(lambda: place.sql(query), "the dead letter")
    assert (destination, reason, bytes(body)) == (to.REDUCTION_READY, "it is not JSON", b"\x00\xff raw")


def test_two_managers_share_the_work(place: Services, manager: object) -> None:
    other = place.start("manager")
    place.publish(*ready(place, range(1500, 1700)))
    done = "SELECT count(*), sum(cycle) FROM run WHERE run_number BETWEEN 1500 AND 1699"
    eventually(lambda: place.sql(done) == [(200, 200)] and not place.sql("SELECT 1 FROM outbox"), "each once")
    assert place.end(other) == 0


def test_a_command_that_the_broker_refuses_stays_and_no_other_is_published_again(place: Services) -> None:
    names = {"refused": "x" * 250, "good": "OUTBOX.GOOD", "end": "OUTBOX.END"}
    put = "INSERT INTO outbox (destination, nf_id, body) VALUES ('{}', '{}', '')"
    place.do(put.format(names["refused"], "refused"))
    place.do(put.format(names["good"], "good"))
    manager = place.start("manager")
    # Meanwhile, what is refused was tried several times.
    time.sleep(3)
    place.do(put.format(names["end"], "end"))
    try:
        (end,) = place.collect([names["end"]], 1)
        assert end.nf_id == "end"
        assert [message.nf_id for message in place.collect([names["good"]], 1)] == ["good"]
        with pytest.raises(TimeoutError):
            place.collect([names["good"]], 1, seconds=0.5)
        eventually(lambda: place.sql("SELECT nf_id FROM outbox") == [("refused",)], "what is refused stays")
    finally:
        place.do("DELETE FROM outbox")
        assert place.end(manager) == 0


def test_a_busy_manager_stops_in_good_order_and_the_next_goes_on(place: Services) -> None:
    place.publish(*ready(place, range(3000, 4000)))
    first = place.start("manager", NEUTRONFLOW_MANAGER__BATCH="50")
    done = "SELECT count(*), sum(cycle) FROM run WHERE run_number BETWEEN 3000 AND 3999"
    eventually(lambda: place.sql(done)[0][0] >= 100, "it is busy")
    began = time.monotonic()
    assert place.end(first) == 0
    assert time.monotonic() - began < 5
    second = place.start("manager")
    eventually(lambda: place.sql(done) == [(1000, 1000)], "each was applied once")
    assert place.end(second) == 0


def test_a_missing_right_is_no_fault_of_the_messages(place: Services, manager: object) -> None:
    right = "INSERT ON event TO nf_manager"
    place.do(f"REVOKE {right.replace(' TO ', ' FROM ')}")
    place.publish(outgoing(to.POSTPROCESS_DATA_READY, place.body(4001)))
    # It is tried again and again, and applied as soon as that is possible.
    tries = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    before = place.sql(tries)[0][0]
    eventually(lambda: place.sql(tries)[0][0] > before, "it is tried")
    place.do(f"GRANT {right}")
    eventually(lambda: place.sql("SELECT 1 FROM run WHERE run_number = 4001"), "it is applied")
    assert place.sql("SELECT 1 FROM dead_letter WHERE reason LIKE '%%permission%%'") == []


def test_a_database_of_a_newer_version_is_left_alone(place: Services) -> None:
    place.do("INSERT INTO django_migrations (app, name, applied) VALUES ('store', '9999_of_the_future', now())")
    try:
        for service in ("manager", "listener"):
            done = place.run(service)
            assert done.returncode == 2
            assert f"neutronflow {service}: The workflow database was made by a newer Neutronflow" in done.stderr
    finally:
        place.do("DELETE FROM django_migrations WHERE name = '9999_of_the_future'")


def test_the_manager_survives_the_loss_of_postgresql_and_of_the_broker(tmp_path: Path) -> None:
    with (
        running_cluster(synchronous_commit="on") as server,
        services(tmp_path, server.conninfo("workflow"), NEUTRONFLOW_SECRET_DB_SUPERUSER="trusted") as place,
    ):
        assert place.run("database", "prepare").returncode == 0
        broker = place.start("broker")
        manager = place.start("manager")
        server.stop()
        place.publish(*ready(place, range(1, 101)))
        server.start()
        count = "SELECT count(*), sum(cycle) FROM run"
        eventually(lambda: place.sql(count) == [(100, 100)], "all are applied after the return of PostgreSQL")
        place.end(broker, signal.SIGKILL)
        broker = place.start("broker")
        place.publish(*ready(place, range(101, 201)))
        eventually(lambda: place.sql(count) == [(200, 200)], "all are applied after the return of the broker")
        eventually(lambda: not place.sql("SELECT 1 FROM outbox"), "all commands are sent")
        assert manager.poll() is None
        assert place.end(manager) == 0
