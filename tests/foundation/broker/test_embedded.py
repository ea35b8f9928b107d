"""The embedded broker, byte by byte; the broker is a process of its own, each test has destinations of its own."""

from __future__ import annotations

import contextlib
import itertools
import select
import time
from collections.abc import Iterator

import pytest

from neutronflow.foundation.broker.frames import MAX_HEADER_BYTES, Frame
from tests.support.broker import BrokerProcess, Raw, eventually, running_broker

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    settings = {"NEUTRONFLOW_BROKER__MAX_FRAME_BYTES": "100000", "NEUTRONFLOW_BROKER__STATISTICS_EVERY_S": "0.2"}
    with running_broker(tmp_path_factory.mktemp("broker"), **settings) as running:
        yield running


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[Raw]:
    with broker.raw() as raw:
        yield raw


@pytest.fixture
def other(broker: BrokerProcess) -> Iterator[Raw]:
    with broker.raw(user="agent") as raw:
        yield raw


@pytest.fixture
def queue() -> str:
    return f"/queue/Q{next(_numbers)}"


@pytest.fixture
def topic() -> str:
    return f"/topic/T{next(_numbers)}"


def bodies(frames: list[Frame]) -> list[bytes]:
    return [frame.body for frame in frames]


# Logging in


def test_the_newest_common_version_is_spoken(broker: BrokerProcess) -> None:
    for offered, spoken in (("1.0,1.1,1.2", "1.2"), ("1.1, 1.0", "1.1")):
        with Raw(broker.port) as raw:
            assert raw.login(**{"accept-version": offered}).headers["version"] == spoken


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"passcode": "wrong"}, "the login of 'manager' is not right"),
        ({"login": "nobody", "passcode": ""}, "the login of 'nobody' is not right"),
        ({"login": "", "passcode": ""}, "the login of '' is not right"),
        ({"accept-version": "1.0"}, "STOMP 1.1 and 1.2"),
        ({"heart-beat": "soon,never"}, "not two numbers"),
        ({"heart-beat": "9" * 400 + ",0"}, "not two numbers"),
    ],
)
def test_who_may_not_come_in_is_told_why(broker: BrokerProcess, changes: dict[str, str], reason: str) -> None:
    with Raw(broker.port) as raw:
        login = {"accept-version": "1.2", "login": "manager", "passcode": "password of manager"}
        raw.frame("CONNECT", {**login, **changes})
        assert reason in raw.expect("ERROR").headers["message"]
        assert raw.is_closed()


def test_nothing_is_taken_before_the_login(broker: BrokerProcess, client: Raw, queue: str) -> None:
    with Raw(broker.port) as raw:
        raw.frame("SEND", {"destination": queue}, b"x")
        assert "has to be CONNECT" in raw.expect("ERROR").headers["message"]
    client.subscribe(queue)
    client.hears_nothing_before()


def test_nobody_gets_memory_before_the_login(broker: BrokerProcess) -> None:
    with Raw(broker.port) as raw:
        raw.send(b"CONNECT\ncontent-length:90000\n\n")
        assert "longer than 1024" in raw.expect("ERROR").headers["message"]


# Queues


def test_messages_come_in_order_with_their_headers(client: Raw, other: Raw, queue: str) -> None:
    header = {"a:b": "colon : back\\slash \n line \r é", "nf-id": "17", "redelivered": "true", "message-id": "mine"}
    for number in range(5):
        client.publish(queue, b"%d\0" % number, **header)
    other.subscribe(queue)
    messages = other.messages(5)
    assert bodies(messages) == [b"%d\0" % number for number in range(5)]
    for message in messages:
        assert message.headers["a:b"] == header["a:b"]
        assert message.headers["nf-id"] == "17"
        assert message.headers["destination"] == queue
        assert message.headers["subscription"] == "s"
        assert "redelivered" not in message.headers
        assert "receipt" not in message.headers
    assert len({message.headers["message-id"] for message in messages} - {"mine"}) == 5


def test_a_bare_name_is_a_queue(client: Raw, queue: str) -> None:
    client.publish(queue.removeprefix("/queue/"), b"x")
    client.subscribe(queue)
    assert client.expect("MESSAGE").headers["destination"] == queue


def test_frames_may_come_byte_by_byte(broker: BrokerProcess, queue: str) -> None:
    with Raw(broker.port) as raw:
        login = {"accept-version": "1.2", "login": "manager", "passcode": "password of manager"}
        data = Frame("CONNECT", login).to_bytes()
        data += Frame("SEND", {"destination": queue, "receipt": "r"}, b"a\0b").to_bytes()
        data += b"\n" + Frame("SUBSCRIBE", {"id": "s", "destination": queue}).to_bytes()
        for byte in data:
            raw.send(bytes([byte]))
        raw.expect("CONNECTED")
        assert raw.expect("RECEIPT").headers["receipt-id"] == "r"
        assert raw.expect("MESSAGE").body == b"a\0b"


def test_an_acknowledged_message_never_comes_again(broker: BrokerProcess, client: Raw, queue: str) -> None:
    for number in range(3):
        client.publish(queue, b"%d" % number)
    with broker.raw() as consumer:
        consumer.subscribe(queue)
        first, second, _ = consumer.messages(3)
        consumer.ack(second)
    client.subscribe(queue)
    assert bodies(client.messages(2)) == [b"0", b"2"]
    client.hears_nothing_before()
    assert first.body == b"0"


def test_in_mode_client_an_acknowledgement_is_for_all_before_it(broker: BrokerProcess, client: Raw, queue: str) -> None:
    for number in range(4):
        client.publish(queue, b"%d" % number)
    with broker.raw() as consumer:
        consumer.subscribe(queue, ack="client")
        consumer.ack(consumer.messages(4)[2])
    client.subscribe(queue)
    assert client.expect("MESSAGE").body == b"3"


def test_in_mode_auto_nothing_has_to_be_acknowledged(broker: BrokerProcess, client: Raw, queue: str) -> None:
    client.publish(queue, b"once")
    with broker.raw() as consumer:
        consumer.subscribe(queue, ack="auto")
        assert "ack" not in consumer.expect("MESSAGE").headers
    client.subscribe(queue)
    client.hears_nothing_before()


def test_a_consumer_holds_no_more_than_its_prefetch(client: Raw, other: Raw, queue: str) -> None:
    for number in range(5):
        client.publish(queue, b"%d" % number)
    other.subscribe(queue, prefetch=2)
    held = other.messages(2)
    other.hears_nothing_before()
    other.ack(held[0])
    assert other.expect("MESSAGE").body == b"2"


def test_a_consumer_holds_so_many_bytes_at_most_whatever_its_prefetch(client: Raw, other: Raw, queue: str) -> None:
    body = b"x" * 90_000
    for _ in range(800):
        client.frame("SEND", {"destination": queue}, body)
    client.publish(queue, body)
    other.subscribe(queue, prefetch=9_999_999)
    other.socket.settimeout(1.0)
    held = []
    with contextlib.suppress(TimeoutError):
        while True:
            held.append(other.expect("MESSAGE"))
    assert 600 < len(held) < 750
    for message in held:
        other.frame("ACK", {"id": message.headers["ack"]})
    for message in other.messages(801 - len(held)):
        other.ack(message)


def test_a_prefetch_of_nothing_is_one(client: Raw, queue: str) -> None:
    client.publish(queue, b"0")
    client.publish(queue, b"1")
    client.subscribe(queue, prefetch=0)
    client.messages(1)
    client.hears_nothing_before()


def test_what_a_lost_consumer_held_goes_at_once_to_an_idle_one(
    broker: BrokerProcess, client: Raw, other: Raw, queue: str
) -> None:
    for number in range(4):
        client.publish(queue, b"%d" % number)
    doomed = broker.raw()
    doomed.subscribe(queue)
    held = doomed.messages(4)
    doomed.ack(held[1])
    other.subscribe(queue)
    doomed.close()
    messages = other.messages(3)
    assert bodies(messages) == [b"0", b"2", b"3"]
    assert [message.headers["redelivered"] for message in messages] == ["true"] * 3
    assert messages[0].headers["message-id"] == held[0].headers["message-id"]


def test_what_a_lost_consumer_held_goes_before_what_came_later(
    broker: BrokerProcess, client: Raw, other: Raw, queue: str
) -> None:
    for number in range(5):
        client.publish(queue, b"%d" % number)
    with broker.raw() as doomed:
        doomed.subscribe(queue, prefetch=2)
        doomed.messages(2)
        other.subscribe(queue, prefetch=1)
        third = other.expect("MESSAGE")
        doomed.frame("DISCONNECT", {"receipt": "bye"})
        doomed.expect("RECEIPT")
    client.subscribe(queue, prefetch=1)
    assert client.expect("MESSAGE").body == b"0"
    other.ack(third)
    assert other.expect("MESSAGE").body == b"1"


def test_a_message_that_is_given_back_comes_again(client: Raw, queue: str) -> None:
    client.publish(queue, b"x")
    client.subscribe(queue)
    client.ack(client.expect("MESSAGE"), "NACK")
    again = client.expect("MESSAGE")
    assert (again.body, again.headers["redelivered"]) == (b"x", "true")


def test_unsubscribing_gives_back_what_was_not_acknowledged(client: Raw, other: Raw, queue: str) -> None:
    client.publish(queue, b"x")
    client.subscribe(queue)
    client.messages(1)
    client.frame("UNSUBSCRIBE", {"id": "s"})
    other.subscribe(queue)
    assert other.expect("MESSAGE").headers["redelivered"] == "true"


def test_consumers_get_equal_shares(broker: BrokerProcess, client: Raw, queue: str) -> None:
    with contextlib.ExitStack() as stack:
        consumers = [stack.enter_context(broker.raw()) for _ in range(3)]
        for consumer in consumers:
            consumer.subscribe(queue, prefetch=1000)
        for number in range(300):
            client.frame("SEND", {"destination": queue}, b"%d" % number)
        client.publish("/queue/marker")
        for consumer in consumers:
            consumer.messages(100)


def test_who_is_quicker_gets_more(broker: BrokerProcess, client: Raw, other: Raw, queue: str) -> None:
    with broker.raw() as slow:
        slow.subscribe(queue, prefetch=1)
        other.subscribe(queue, prefetch=1)
        for number in range(100):
            client.publish(queue, b"%d" % number)
        for _ in range(99):
            other.frame("ACK", {"id": other.expect("MESSAGE").headers["ack"]})


def test_a_long_queue_is_delivered_whole_and_in_order_while_it_grows(client: Raw, other: Raw, queue: str) -> None:
    for number in range(2500):
        client.frame("SEND", {"destination": queue}, b"%d" % number)
    client.publish(queue, b"2500")
    other.subscribe(queue, prefetch=300)
    for number in range(5001):
        message = other.expect("MESSAGE")
        assert message.body == b"%d" % number
        other.frame("ACK", {"id": message.headers["ack"]})
        if number < 2500:
            client.frame("SEND", {"destination": queue}, b"%d" % (2501 + number))
    client.hears_nothing_before()


# Topics


def test_a_topics_message_goes_to_all_who_listen_now(client: Raw, other: Raw, topic: str) -> None:
    client.publish(topic, b"too early")
    client.subscribe(topic)
    other.subscribe(topic)
    client.frame("SEND", {"destination": topic}, b"x")
    for one in (client, other):
        message = one.expect("MESSAGE")
        assert (message.body, message.headers["destination"]) == (b"x", topic)
    client.frame("UNSUBSCRIBE", {"id": "s", "receipt": "r"})
    client.expect("RECEIPT")
    client.publish(topic, b"y")
    client.hears_nothing_before()
    assert other.expect("MESSAGE").body == b"y"


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("*.STATUS", ["A.STATUS", "B.STATUS"]),
        ("A.*", ["A.STATUS", "A.SIGNAL"]),
        ("A.>", ["A.STATUS", "A.SIGNAL", "A.B.C"]),
        ("A.#", ["A.STATUS", "A.SIGNAL", "A.B.C"]),
        ("*.*.C", ["A.B.C"]),
        ("A.STATUS", ["A.STATUS"]),
        ("a.status", []),
    ],
)
def test_a_subscription_may_cover_many_topics(client: Raw, pattern: str, heard: list[str]) -> None:
    base = f"/topic/W{next(_numbers)}."
    client.subscribe(base + pattern)
    for name in ("A.STATUS", "B.STATUS", "A.SIGNAL", "A.B.C"):
        client.frame("SEND", {"destination": base + name})
    assert [frame.headers["destination"] for frame in client.messages(len(heard))] == [base + name for name in heard]
    client.hears_nothing_before()


def test_a_queue_does_not_hear_its_topic(client: Raw, queue: str) -> None:
    client.subscribe(queue)
    client.publish(queue.replace("/queue/", "/topic/"), b"x")
    client.hears_nothing_before()


# What is refused


@pytest.mark.parametrize(
    ("command", "headers", "reason"),
    [
        ("SEND", {}, "the header 'destination' is missing"),
        ("SEND", {"destination": "/queue/"}, "has no name"),
        ("SEND", {"destination": "/exchange/x"}, "neither a /queue/ nor a /topic/"),
        ("SEND", {"destination": "x" * 300}, "longer than 255"),
        ("SEND", {"destination": "x", "transaction": "t"}, "no transactions"),
        ("BEGIN", {"transaction": "t"}, "no transactions"),
        ("SUBSCRIBE", {"destination": "x"}, "the header 'id' is missing"),
        ("SUBSCRIBE", {"destination": "x", "id": "s", "ack": "perhaps"}, "no ack mode 'perhaps'"),
        ("SUBSCRIBE", {"destination": "x", "id": "s", "selector": "a = 1"}, "no selectors"),
        ("SUBSCRIBE", {"destination": "x", "id": "s", "prefetch-count": "many"}, "'many' is no number"),
        ("ACK", {}, "'message-id' is missing"),
        ("ACK", {"id": "x" * 50}, "no message"),
        ("ACK", {"id": "9" * 40}, "no message"),
        ("CONNECT", {"accept-version": "1.2"}, "does not know CONNECT"),
        ("DANCE", {}, "does not know DANCE"),
    ],
)
def test_a_refused_frame_ends_its_connection_with_the_reason_and_no_other(
    client: Raw, other: Raw, command: str, headers: dict[str, str], reason: str
) -> None:
    client.frame(command, {**headers, "receipt": "r"})
    error = client.expect("ERROR")
    assert reason in error.headers["message"]
    assert error.headers["receipt-id"] == "r"
    assert client.is_closed()
    other.publish("/queue/aside", b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"SEND\ndestination\n\n\0",
        b"SEND\ndestination:/queue/x\nfoo:\\t\n\n\0",
        b"SEND\ndestination:/queue/x\ncontent-length:3\n\nabcd\0",
        b"SEND\ndestination:/queue/x\ncontent-length:100001\n\n",
        b"SEND\ndestination:/queue/x\n\n" + b"x" * 100_001,
        b"SEND\n" + b"x" * MAX_HEADER_BYTES,
        b"SEND\n\xff:x\n\n\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_malformed_frame_ends_its_connection_with_the_reason_and_no_other(
    client: Raw, other: Raw, data: bytes
) -> None:
    client.send(data)
    assert "cannot be understood" in client.expect("ERROR").headers["message"]
    assert client.is_closed()
    other.publish("/queue/aside", b"x")


def test_a_name_may_not_be_subscribed_twice(client: Raw, queue: str) -> None:
    client.subscribe(queue)
    client.frame("SUBSCRIBE", {"id": "s", "destination": queue})
    assert "already" in client.expect("ERROR").headers["message"]


def test_an_unknown_message_may_be_acknowledged_for_nothing(client: Raw, queue: str) -> None:
    client.frame("ACK", {"id": "999999"})
    client.publish(queue)


def test_leaving_is_confirmed_when_all_that_was_sent_is_kept(broker: BrokerProcess, client: Raw, queue: str) -> None:
    with broker.raw() as leaving:
        for number in range(50):
            leaving.frame("SEND", {"destination": queue}, b"%d" % number)
        leaving.frame("DISCONNECT", {"receipt": "bye"})
        assert leaving.expect("RECEIPT").headers["receipt-id"] == "bye"
        assert leaving.is_closed()
    client.subscribe(queue)
    client.messages(50)


# Clients that are slow or silent


def test_a_client_that_does_not_read_stalls_nobody(broker: BrokerProcess, client: Raw, queue: str, topic: str) -> None:
    with broker.raw() as slow, broker.raw() as quick:
        slow.subscribe(queue, ack="auto")
        slow.subscribe(topic, name="t")
        quick.subscribe(topic)
        times = []
        for _ in range(300):  # 30 MB, and 30 MB again: more than sockets and buffers hold
            client.frame("SEND", {"destination": queue}, b"q" * 99_000)
            began = time.monotonic()
            client.publish(topic, b"t" * 99_000)
            quick.expect("MESSAGE")
            times.append(time.monotonic() - began)
        assert max(times) < 1, max(times)
        eventually(lambda: broker.statistics()["dropped_for_slow"] > 0, "what was dropped is counted")
        # It can go on where it was, and what is in the queue was not dropped.
        left = 300
        while left:
            message = slow.expect("MESSAGE")
            left -= message.headers["destination"] == queue


def test_a_silent_client_is_cut_off_and_a_beating_one_is_not(broker: BrokerProcess, queue: str) -> None:
    with broker.raw(**{"heart-beat": "200,0"}) as silent, broker.raw(**{"heart-beat": "200,100"}) as beating:
        silent.subscribe(queue)
        silent.socket.setblocking(False)
        beating.publish(queue, b"x")
        deadline = time.monotonic() + 5
        while not _closed(silent):
            assert time.monotonic() < deadline
            select.select([silent.socket], [], [], 0.05)
            beating.send(b"\n")
        beating.subscribe(queue)
        assert beating.expect("MESSAGE").headers["redelivered"] == "true"


def _closed(client: Raw) -> bool:
    try:
        return client.socket.recv(1 << 16) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_heart_beats_come_as_agreed(broker: BrokerProcess) -> None:
    with Raw(broker.port) as raw:
        assert raw.login(**{"heart-beat": "0,100"}).headers["heart-beat"] == "100,0"
        raw.socket.settimeout(2)
        assert raw.socket.recv(1) == b"\n"
        assert raw.socket.recv(1) == b"\n"


# What one can see


def test_the_statistics_tell_depth_consumers_and_counts(broker: BrokerProcess, client: Raw, queue: str) -> None:
    client.publish(queue, b"x")
    client.publish(queue, b"y")
    client.subscribe(queue, prefetch=1)
    client.ack(client.expect("MESSAGE"))
    name = queue.removeprefix("/queue/")
    wanted = {"depth": 1, "consumers": 1, "received": 2, "delivered": 2}
    eventually(lambda: broker.statistics()["queues"].get(name) == wanted, "the queue's statistics")
    assert broker.statistics()["refused_frames"] > 0
