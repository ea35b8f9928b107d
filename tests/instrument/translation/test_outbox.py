from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from neutronflow.foundation.broker.message import Outgoing, queue
from neutronflow.foundation.broker.session import Session
from neutronflow.instrument.translation.outbox import Outbox
from tests.support.services import Services, eventually

QUEUE = queue("TESTS.OUTBOX")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    place = Services(
        tmp_path_factory.mktemp("outbox"), "port=1 dbname=none", NEUTRONFLOW_BROKER__MAX_FRAME_BYTES="50000"
    )
    try:
        place.start("broker")
        yield place
    finally:
        place.end_all()


def message(body: bytes) -> Outgoing:
    return Outgoing(destination=QUEUE, body=body)


def nameless() -> Outgoing:
    """One that the broker refuses: a destination's name has at most 255 characters."""
    return Outgoing(destination=queue("x" * 300), body=b"")


async def publish_until_empty(place: Services, outbox: Outbox, left: int = 0) -> None:
    async with Session.from_settings(place.settings, user="translator") as session, asyncio.timeout(20):
        publishing = asyncio.create_task(outbox.publish_forever(session))
        await asyncio.to_thread(eventually, lambda: len(outbox.pending()) <= left, "an outbox as empty as it gets")
        assert not publishing.done()
        publishing.cancel()


def test_messages_are_published_in_order_under_the_identity_they_were_kept_with(
    place: Services, tmp_path: Path
) -> None:
    messages = [message(b"%d" % number) for number in range(5)]

    async def work() -> None:
        Outbox(tmp_path).add(*messages)
        again = Outbox(tmp_path)  # as after a restart
        assert [path.stem for path in again.pending()] == [one.nf_id for one in messages]
        await publish_until_empty(place, again)

    asyncio.run(work())
    taken = place.collect(["TESTS.OUTBOX"], 5)
    assert [(one.nf_id, one.body) for one in taken] == [(one.nf_id, one.body) for one in messages]
    assert not list(tmp_path.iterdir())


def test_a_message_that_the_broker_refuses_keeps_no_other_waiting(place: Services, tmp_path: Path) -> None:
    async def work() -> None:
        outbox = Outbox(tmp_path, again_s=0.05)
        outbox.add(nameless(), message(b"good"))
        await publish_until_empty(place, outbox, left=1)

    asyncio.run(work())
    assert place.collect(["TESTS.OUTBOX"], 1)[0].body == b"good"
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_files_that_are_no_messages_are_put_aside(place: Services, tmp_path: Path) -> None:
    (tmp_path / "0.json").write_bytes(b"\0 no JSON")
    (tmp_path / "1.json").write_text('{"kind": "pigeon", "destination": "X", "nf_id": "1", "body": ""}')
    (tmp_path / "2.part").write_text("unfinished")

    async def work() -> None:
        outbox = Outbox(tmp_path)
        outbox.add(message(b"good"))
        await publish_until_empty(place, outbox)

    asyncio.run(work())
    assert place.collect(["TESTS.OUTBOX"], 1)[0].body == b"good"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.bad", "1.bad"]
