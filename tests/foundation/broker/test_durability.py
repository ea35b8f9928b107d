"""What the embedded broker keeps over its death, over full disks, and how much memory it takes for it."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import BrokerProcess, eventually, running_broker
from tests.support.postgres import free_port

QUEUE = "/queue/KEPT"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with running_broker(tmp_path, NEUTRONFLOW_BROKER__STATISTICS_EVERY_S="0.2") as running:
        yield running


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_confirmed_outlives_the_broker(broker: BrokerProcess, how: signal.Signals) -> None:
    with broker.raw() as sender:
        for number in range(500):
            sender.publish(QUEUE, b"%d" % number, persistent="true")
        assert broker.end(how) == (0 if how == signal.SIGTERM else -how)
    broker.start()
    with broker.raw() as consumer:
        consumer.subscribe(QUEUE, prefetch=500)
        messages = consumer.messages(500)
        assert [message.body for message in messages] == [b"%d" % number for number in range(500)]
        consumer.hears_nothing_before()


def test_a_message_has_the_same_id_after_a_restart_and_a_later_one_another(broker: BrokerProcess) -> None:
    with broker.raw() as client:
        client.publish(QUEUE, b"x")
        client.subscribe(QUEUE)
        before = client.expect("MESSAGE").headers["message-id"]
    broker.end(signal.SIGKILL)
    broker.start()
    with broker.raw() as client:
        client.publish(QUEUE, b"y")
        client.subscribe(QUEUE)
        first, second = client.messages(2)
        assert (first.headers["message-id"], first.body) == (before, b"x")
        assert second.headers["message-id"] != before


def test_what_was_acknowledged_with_a_receipt_does_not_come_back(broker: BrokerProcess) -> None:
    with broker.raw() as client:
        client.publish(QUEUE, b"x")
        client.publish(QUEUE, b"y")
        client.subscribe(QUEUE)
        client.ack(client.expect("MESSAGE"))
        broker.end(signal.SIGKILL)
    broker.start()
    with broker.raw() as client:
        client.subscribe(QUEUE)
        assert client.expect("MESSAGE").body == b"y"


def test_a_deep_queue_takes_no_memory_and_is_delivered_whole(broker: BrokerProcess) -> None:
    before = broker.memory()
    with broker.raw() as client:
        for number in range(60_000):
            client.frame("SEND", {"destination": QUEUE, "persistent": "true"}, b"%1000d" % number)
        client.publish(QUEUE)
        # 60 MB of bodies.
        assert broker.memory() - before < 30_000_000
        client.subscribe(QUEUE, prefetch=1000)
        for number in range(60_000):
            message = client.expect("MESSAGE")
            assert int(message.body) == number
            client.frame("ACK", {"id": message.headers["ack"]})
        client.ack(client.expect("MESSAGE"))
    eventually(lambda: broker.statistics()["queues"]["KEPT"]["depth"] == 0, "an empty queue")
    assert broker.memory() - before < 40_000_000


def test_a_full_disk_loses_nothing_that_was_confirmed_and_ends_when_there_is_room(broker: BrokerProcess) -> None:
    assert broker.process is not None
    confirmed = 0
    with broker.raw() as sender, broker.raw() as other:
        # No file of the broker may grow beyond 200 kB from now on.
        resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        error = None
        while error is None:
            sender.frame("SEND", {"destination": QUEUE, "receipt": "r"}, b"%10000d" % confirmed)
            answer = sender.next()
            if answer.command == "ERROR":
                error = answer
            else:
                confirmed += 1
        assert "could not be stored" in error.headers["message"]
        # The sender is not to blame: it may try again.
        assert "receipt-id" not in error.headers
        assert confirmed > 5
        # The others are still served.
        other.subscribe("/topic/T", name="t")
        other.frame("SEND", {"destination": "/topic/T"}, b"x")
        other.expect("MESSAGE")
        resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        other.publish(QUEUE, b"last")
        other.subscribe(QUEUE)
        messages = other.messages(confirmed + 1)
        assert [int(message.body) for message in messages[:-1]] == list(range(confirmed))
        assert messages[-1].body == b"last"
    eventually(lambda: broker.statistics()["failed_commits"] == 1, "the failure is counted")


def test_acknowledgements_that_met_a_full_disk_are_made_good(broker: BrokerProcess) -> None:
    assert broker.process is not None
    with broker.raw() as client:
        for number in range(20):
            client.publish(QUEUE, b"%10000d" % number)
        client.subscribe(QUEUE)
        messages = client.messages(20)
        resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        for message in messages[:10]:
            client.frame("ACK", {"id": message.headers["ack"]})
        eventually(lambda: "broker_store_failed" in (broker.folder / "log").read_text(), "the failure is told")
        resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        # Ordered behind the ten that are tried again.
        client.ack(messages[10])
        client.hears_nothing_before()
    assert broker.end() == 0
    broker.start()
    with broker.raw() as client:
        client.subscribe(QUEUE)
        assert [int(message.body) for message in client.messages(9)] == list(range(11, 20))


def refusal(broker: BrokerProcess) -> str:
    """How a broker that cannot start says so."""
    ended = subprocess.run(broker.command, env=broker.environ, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    return ended.stderr


def test_a_second_broker_on_the_same_port_or_store_says_what_is_wrong(broker: BrokerProcess, tmp_path: Path) -> None:
    assert re.search(r"messages\.sqlite cannot be used: database is locked", refusal(broker))
    elsewhere = BrokerProcess(tmp_path / "elsewhere")
    elsewhere.environ["NEUTRONFLOW_BROKER__PORT"] = str(broker.port)
    assert f"The broker cannot listen on 127.0.0.1:{broker.port}" in refusal(elsewhere)


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "messages.sqlite").write_bytes(b"This is a letter, no database. " * 100)
    assert "cannot be used: file is not a database" in refusal(broker)


def test_a_missing_password_is_named(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    broker.environ["NEUTRONFLOW_BROKER__USERS"] = '["manager", "guest"]'
    broker.environ["NEUTRONFLOW_BROKER__PORT"] = str(free_port())
    assert "The secret 'broker-guest' is neither" in refusal(broker)
