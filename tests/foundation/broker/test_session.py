"""Our session against a real broker that comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from neutronflow.foundation.broker.message import Outgoing, queue, topic
from neutronflow.foundation.broker.session import BrokerUnavailable, PublicationRefused, Session, SubscriptionRefused
from tests.support.broker import BrokerProcess, running_broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker that the test may end."""
    with running_broker(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def session_of(broker: BrokerProcess, user: str = "manager") -> AsyncIterator[Session]:
    async with asyncio.timeout(30), Session.from_settings(broker.settings, user=user) as session:
        await session.connected()
        yield session


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_message_arrives_as_it_was_sent(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(broker) as sender, session_of(broker, "agent") as receiver:
            heard = await receiver.subscribe([queue("ONE"), topic("TWO.*")])
            sent = Outgoing(destination=queue("ONE"), body=b"a\0b", headers={"x:y": "a:b\nc\\d"})
            await sender.publish(sent)
            message = await heard.get()
            assert (message.destination, message.body, message.nf_id) == (queue("ONE"), b"a\0b", sent.nf_id)
            assert message.headers["x:y"] == "a:b\nc\\d"
            assert message.headers["persistent"] == "true"
            await receiver.ack(message)
            # The subscription is confirmed, so what is sent to the topic from now on is heard.
            await sender.send_nowait(Outgoing(destination=topic("TWO.B"), body=b"", persistent=False))
            assert (await heard.get()).destination == topic("TWO.B")

    asyncio.run(scenario())


def test_many_messages_are_published_and_taken_in_batches(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(broker) as session:
            heard = await session.subscribe([queue("MANY")], prefetch=200)
            await session.publish_many([Outgoing(destination=queue("MANY"), body=b"%d" % n) for n in range(1200)])
            taken: list[bytes] = []
            while len(taken) < 1200:
                batch = await heard.get_batch(max_messages=500)
                assert len(batch) <= 200
                taken += [message.body for message in batch]
                await session.ack(batch)
            assert taken == [b"%d" % n for n in range(1200)]

    asyncio.run(scenario())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_lost_over_restarts_and_repetitions_have_the_same_identity(
    own_broker: BrokerProcess, how: signal.Signals
) -> None:
    total = 3000

    async def scenario() -> None:
        async with session_of(own_broker) as sender, session_of(own_broker, "agent") as receiver:
            heard = await receiver.subscribe([queue("WORK")], prefetch=50)
            outgoing = [Outgoing(destination=queue("WORK"), body=b"%d" % number) for number in range(total)]
            identities: dict[bytes, set[str | None]] = {one.body: set() for one in outgoing}

            async def publish() -> None:
                for start in range(0, total, 100):
                    await sender.publish_many(outgoing[start : start + 100])

            async def receive() -> None:
                while not all(identities.values()):
                    for message in await heard.get_batch(20):
                        identities[message.body].add(message.nf_id)
                        await receiver.ack(message)

            async def restart() -> None:
                for share in (4, 2):
                    await until(lambda: sum(map(bool, identities.values())) > total // share)  # noqa: B023
                    await asyncio.to_thread(own_broker.end, how)
                    await asyncio.to_thread(own_broker.start)

            await asyncio.gather(publish(), receive(), restart())
            assert all(identities[one.body] == {one.nf_id} for one in outgoing)

    asyncio.run(scenario())


def test_an_acknowledgement_of_an_earlier_connection_is_left_out(own_broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(own_broker) as session:
            heard = await session.subscribe([queue("WORK")])
            await session.publish_many([Outgoing(destination=queue("WORK"), body=body) for body in (b"1", b"2")])
            first = await heard.get()
            await asyncio.to_thread(own_broker.end, signal.SIGKILL)
            await session.ack(first)
            await asyncio.to_thread(own_broker.start)
            # What was not taken from the lost connection is not there twice.
            again, second = await heard.get(), await heard.get()
            await session.ack(first)
            assert (again.message_id, again.body, second.body) == (first.message_id, b"1", b"2")
            await session.ack([again, second])
            await session.publish(Outgoing(destination=queue("WORK"), body=b"3"))
            assert (await heard.get()).body == b"3"

    asyncio.run(scenario())


def test_topics_are_heard_again_after_a_restart(own_broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(own_broker) as session:
            heard = await session.subscribe([topic("NEWS.>")])
            await asyncio.to_thread(own_broker.end)
            await until(lambda: not session.is_connected)
            # Nobody is there to take it, and it is not worth to wait for.
            await session.send_nowait(Outgoing(destination=topic("NEWS.OLD"), body=b""))
            await asyncio.to_thread(own_broker.start)
            await session.publish(Outgoing(destination=topic("NEWS.NEW"), body=b""))
            assert (await heard.get()).destination == topic("NEWS.NEW")

    asyncio.run(scenario())


def test_without_a_broker_publishing_waits_as_long_as_one_wants(own_broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(own_broker) as session:
            await asyncio.to_thread(own_broker.end)
            await until(lambda: not session.is_connected)
            message = Outgoing(destination=queue("WORK"), body=b"x")
            with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{own_broker.port} cannot be used: "):
                await session.publish(message, timeout=0.1)
            with pytest.raises(BrokerUnavailable):
                await session.connected(timeout=0.1)
            waiting = asyncio.create_task(session.publish(message))
            await asyncio.to_thread(own_broker.start)
            await waiting

    asyncio.run(scenario())


def test_a_wrong_password_is_told_in_the_brokers_words(broker: BrokerProcess) -> None:
    settings = BrokerProcess(
        broker.folder, NEUTRONFLOW_BROKER__PORT=str(broker.port), NEUTRONFLOW_SECRET_BROKER_MANAGER="guess"
    ).settings

    async def scenario() -> None:
        async with Session.from_settings(settings, user="manager") as session:
            with pytest.raises(BrokerUnavailable, match="the login of 'manager' is not right"):
                await session.connected(timeout=0.5)

    asyncio.run(scenario())


def test_a_refused_message_is_told_and_the_others_are_published(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(broker) as session:
            heard = await session.subscribe([queue("REST")])
            good = [Outgoing(destination=queue("REST"), body=b"%d" % number) for number in range(4)]
            nowhere = Outgoing(destination=queue("x" * 300), body=b"")
            with pytest.raises(PublicationRefused, match="the destination is longer than 255 characters"):
                await session.publish_many([*good[:2], nowhere, *good[2:]])
            taken: set[bytes] = set()
            while len(taken) < 4:
                taken |= {message.body for message in await heard.get_batch(10)}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Outgoing(destination=queue("BIG"), body=b"x" * (16 * 1024 * 1024 + 1)), "its body of 16777217 bytes"),
        (Outgoing(destination=queue("BIG"), body=b"", headers={"x": "y" * 70_000}), "its headers are longer"),
        (Outgoing(destination=queue("BIG"), body=b"", headers={"x": "y\0"}), "a header holds a NUL"),
    ],
)
def test_a_message_that_no_broker_takes_costs_no_connection(
    broker: BrokerProcess, message: Outgoing, reason: str
) -> None:
    async def scenario() -> None:
        async with session_of(broker) as session:
            heard = await session.subscribe([queue("SMALL")])
            await session.publish(Outgoing(destination=queue("SMALL"), body=b""))
            before = await heard.get()
            with pytest.raises(PublicationRefused, match=reason):
                await session.publish_many([Outgoing(destination=queue("SMALL"), body=b"with it"), message])
            assert (await heard.get()).body == b"with it"
            await session.send_nowait(message)
            await session.publish(Outgoing(destination=queue("SMALL"), body=b""))
            assert (await heard.get()).connection == before.connection

    asyncio.run(scenario())


def test_a_refused_subscription_is_told(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(broker) as session:
            with pytest.raises(SubscriptionRefused, match="has no name"):
                await session.subscribe([queue("FINE"), queue("")])
            heard = await session.subscribe([queue("FINE")])
            await session.publish(Outgoing(destination=queue("FINE"), body=b"x"))
            await heard.get()

    asyncio.run(scenario())


def test_leaving_waits_for_what_was_sent(broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(broker) as session:
            sent = [Outgoing(destination=queue("LEFT"), body=b"%d" % number) for number in range(300)]
            publishing = asyncio.create_task(session.publish_many(sent))
            await asyncio.sleep(0)  # so that it begins
        await asyncio.wait_for(publishing, 5)

    asyncio.run(scenario())


def test_after_leaving_nobody_waits_for_ever(own_broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with session_of(own_broker) as session:
            await asyncio.to_thread(own_broker.end)
            await until(lambda: not session.is_connected)
            message = Outgoing(destination=queue("WORK"), body=b"x")
            waiting = asyncio.create_task(session.publish(message))
            await asyncio.sleep(0)  # so that it waits
        with pytest.raises(BrokerUnavailable, match="the session is closed"):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(BrokerUnavailable, match="the session is closed"):
            await session.publish(message)

    asyncio.run(scenario())


def test_a_broker_that_falls_silent_is_left(tmp_path: Path) -> None:
    with running_broker(tmp_path, NEUTRONFLOW_BROKER__HEARTBEAT_S="0.2") as broker:

        async def scenario() -> None:
            async with session_of(broker) as session:
                heard = await session.subscribe([queue("WORK")])
                assert broker.process is not None
                broker.process.send_signal(signal.SIGSTOP)
                try:
                    await until(lambda: not session.is_connected)
                finally:
                    broker.process.send_signal(signal.SIGCONT)
                await session.publish(Outgoing(destination=queue("WORK"), body=b"x"))
                assert (await heard.get()).body == b"x"

        asyncio.run(scenario())


def test_a_slow_caller_is_not_flooded_from_topics(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neutronflow.foundation.broker.subscription.MAX_WAITING_MESSAGES", 10)

    async def scenario() -> None:
        async with session_of(broker) as session:
            heard = await session.subscribe([topic("FLOOD"), queue("DRIP")])
            for number in range(30):
                await session.send_nowait(Outgoing(destination=topic("FLOOD"), body=b"%d" % number))
            await session.publish(Outgoing(destination=queue("DRIP"), body=b"kept"))
            await until(lambda: heard.dropped == 20)
            batch: list[bytes] = []
            while len(batch) < 11:
                batch += [message.body for message in await heard.get_batch(100)]
            assert batch == [*(b"%d" % number for number in range(10)), b"kept"]

    asyncio.run(scenario())
