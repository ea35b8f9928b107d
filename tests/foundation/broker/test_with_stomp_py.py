"""The embedded broker with a client that is not ours, as facilities use it today."""

from __future__ import annotations

import contextlib
import os
import queue as queues
import subprocess
import sys
from collections.abc import Iterator

import pytest
import stomp

from tests.support.broker import BrokerProcess, eventually, running_broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


class Heard(stomp.ConnectionListener):  # type: ignore[misc]
    """What a connection hears."""

    def __init__(self) -> None:
        self.messages: queues.Queue[stomp.utils.Frame] = queues.Queue()
        self.receipts: queues.Queue[str] = queues.Queue()
        self.errors: queues.Queue[stomp.utils.Frame] = queues.Queue()
        self.lost = False

    def on_message(self, frame: stomp.utils.Frame) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: stomp.utils.Frame) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: stomp.utils.Frame) -> None:
        self.errors.put(frame)

    def on_disconnected(self) -> None:
        self.lost = True

    def message(self) -> stomp.utils.Frame:
        return self.messages.get(timeout=10)


@contextlib.contextmanager
def connected(
    broker: BrokerProcess, kind: type = stomp.Connection12, password: str = "password of agent", **options: object
) -> Iterator[tuple[stomp.Connection12, Heard]]:
    connection = kind([("127.0.0.1", broker.port)], reconnect_attempts_max=1, **options)
    heard = Heard()
    connection.set_listener("", heard)
    try:
        connection.connect("agent", password, wait=True)
        yield connection, heard
    finally:
        connection.disconnect()
        connection.transport.stop()


@pytest.mark.parametrize("kind", [stomp.Connection11, stomp.Connection12])
def test_a_message_arrives_as_it_was_sent(broker: BrokerProcess, kind: type) -> None:
    name = f"/queue/{kind.__name__}"
    with connected(broker, kind) as (sender, confirmed), connected(broker, kind) as (receiver, heard):
        value = "a:b\\c\nd" + (" \r " if kind is stomp.Connection12 else "")
        sender.send(name, "body é", headers={"persistent": "true", "note": value}, receipt="r")
        assert confirmed.receipts.get(timeout=10) == "r"
        receiver.subscribe(name, "1", ack="client-individual")
        message = heard.message()
        assert (message.body, message.headers["note"], message.headers["destination"]) == ("body é", value, name)
        if kind is stomp.Connection12:
            receiver.ack(message.headers["ack"], receipt="a")
        else:
            receiver.ack(message.headers["message-id"], "1", receipt="a")
        assert heard.receipts.get(timeout=10) == "a"
    with connected(broker, kind) as (receiver, heard):
        receiver.subscribe(name, "1", ack="client-individual")
        receiver.send("/queue/marker", "x", receipt="m")
        assert heard.receipts.get(timeout=10) == "m"
        assert heard.messages.empty()


def test_a_carriage_return_reaches_a_client_of_version_1_1(broker: BrokerProcess) -> None:
    with (
        connected(broker, stomp.Connection12) as (sender, _),
        connected(broker, stomp.Connection11) as (receiver, heard),
    ):
        receiver.subscribe("/queue/RETURN", "1", ack="auto")
        sender.send("/queue/RETURN", "x", headers={"x": "\\r is no \\\\r, \n but \r is"})
        assert heard.message().headers["x"] == "\\r is no \\\\r, \n but \r is"


def test_a_thousand_messages_keep_their_order(broker: BrokerProcess) -> None:
    with connected(broker) as (sender, _), connected(broker) as (receiver, heard):
        receiver.subscribe("/queue/ORDER", "1", ack="client-individual", headers={"activemq.prefetchSize": "10"})
        for number in range(1000):
            sender.send("/queue/ORDER", str(number), headers={"persistent": "true"})
        for number in range(1000):
            message = heard.message()
            assert message.body == str(number)
            receiver.ack(message.headers["ack"])


def test_all_listeners_hear_a_topic(broker: BrokerProcess) -> None:
    with connected(broker) as (sender, _), connected(broker) as (one, first), connected(broker) as (two, second):
        one.subscribe("/topic/SNS.*.STATUS", "1", receipt="s")
        two.subscribe("/topic/SNS.>", "1", receipt="s")
        for heard in (first, second):
            heard.receipts.get(timeout=10)
        sender.send("/topic/SNS.EXAMPLE.STATUS", "up")
        for heard in (first, second):
            assert heard.message().headers["destination"] == "/topic/SNS.EXAMPLE.STATUS"


CONSUMER = """
import sys, time, stomp
class Taker(stomp.ConnectionListener):
    def on_message(self, frame):
        print(frame.body, flush=True)
connection = stomp.Connection12([("127.0.0.1", int(sys.argv[1]))])
connection.set_listener("", Taker())
connection.connect("agent", "password of agent", wait=True)
connection.subscribe("/queue/JOBS", "1", ack="client-individual", headers={"prefetch-count": "3"})
time.sleep(60)
"""


def test_the_work_of_a_killed_consumer_goes_to_an_idle_one(broker: BrokerProcess) -> None:
    with connected(broker) as (sender, confirmed), connected(broker) as (receiver, heard):
        for number in range(3):
            sender.send("/queue/JOBS", str(number), receipt=str(number))
            assert confirmed.receipts.get(timeout=10) == str(number)
        doomed = subprocess.Popen(
            [sys.executable, "-c", CONSUMER, str(broker.port)], stdout=subprocess.PIPE, env=os.environ, text=True
        )
        assert doomed.stdout is not None
        with doomed.stdout:
            assert [doomed.stdout.readline().strip() for _ in range(3)] == ["0", "1", "2"]
            receiver.subscribe("/queue/JOBS", "1", ack="client-individual")
            doomed.kill()
            doomed.wait()
        messages = [heard.message() for _ in range(3)]
        assert [message.body for message in messages] == ["0", "1", "2"]
        assert {message.headers["redelivered"] for message in messages} == {"true"}


def test_a_wrong_password_is_told(broker: BrokerProcess) -> None:
    connection = stomp.Connection12([("127.0.0.1", broker.port)], reconnect_attempts_max=1)
    heard = Heard()
    connection.set_listener("", heard)
    with contextlib.suppress(stomp.exception.ConnectFailedException):
        connection.connect("agent", "guess", wait=True)
    assert "the login of 'agent' is not right" in heard.errors.get(timeout=10).headers["message"]
    eventually(lambda: heard.lost, "the connection is closed")
    connection.transport.stop()


def test_heart_beats_keep_a_quiet_connection(broker: BrokerProcess) -> None:
    with connected(broker, heartbeats=(200, 200)) as (connection, heard):
        connection.subscribe("/queue/QUIET", "1")
        # Longer than either side waits for the other.
        with pytest.raises(queues.Empty):
            heard.messages.get(timeout=1.0)
        assert not heard.lost
        connection.send("/queue/QUIET", "still there")
        assert heard.message().body == "still there"
