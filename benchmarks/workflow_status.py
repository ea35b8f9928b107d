"""Run status messages a second, from the queues of the embedded broker to committed rows.

Agents' answers (1 kB, persistent) about runs that are in the database wait in the broker; the clock runs from the moment at
which a real manager process says that it is ready until the last of them is committed in a real PostgreSQL (fsync on). One in
four has a command as its consequence, which is published meanwhile. Beside it the raw limit: the same messages, drained from
the same broker by a bare consumer that acknowledges each one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.support.place import Place, place, wait_until
from neutronflow.domain.messages import destinations as to
from neutronflow.foundation.broker.message import Outgoing, queue
from neutronflow.foundation.broker.session import Session

ANSWERS = (to.CATALOG_RAW_STARTED, to.CATALOG_RAW_COMPLETE, to.REDUCTION_STARTED, to.REDUCTION_COMPLETE)
RUNS = 15_000
BODY_BYTES = 1024


def _body(archive: str, run_number: int, **more: object) -> bytes:
    values = {
        "facility": "SNS",
        "instrument": f"INST{run_number % 20}",
        "ipts": f"IPTS-{run_number % 100}",
        "run_number": run_number,
        "data_file": f"{archive}/SNS/run_{run_number}.nxs.h5",
        **more,
    }
    pad = BODY_BYTES - len(json.dumps({**values, "pad": ""}))
    return json.dumps({**values, "pad": "x" * pad}).encode()


def _answers(archive: str) -> list[Outgoing]:
    return [
        Outgoing(
            destination=queue(name), body=_body(archive, number, information="autoreducer1", nf_attempt=1, nf_cycle=1)
        )
        for number in range(1, RUNS + 1)
        for name in ANSWERS
    ]


async def _publish(here: Place, messages: Sequence[Outgoing]) -> None:
    async with Session.from_settings(here.settings, user="agent") as session:
        await session.publish_many(messages)


async def _drain(here: Place, count: int) -> float:
    """Seconds in which a bare consumer takes and acknowledges so many messages."""
    async with Session.from_settings(here.settings, user="manager") as session:
        await session.connected()
        began = time.perf_counter()
        subscription = await session.subscribe([queue(name) for name in ANSWERS], prefetch=500)
        taken = 0
        while taken < count:
            batch = await subscription.get_batch(500)
            taken += len(batch)
            await session.ack(batch)
        return time.perf_counter() - began


def _make_runs(here: Place, archive: str) -> None:
    """Let the manager make the runs, as it does in life."""
    ready = [
        Outgoing(destination=queue(to.POSTPROCESS_DATA_READY), body=_body(archive, number + 1))
        for number in range(RUNS)
    ]
    asyncio.run(_publish(here, ready))
    manager = here.start("manager")
    with here.database() as database:
        finished = "SELECT (SELECT count(*) FROM run) = %s AND NOT EXISTS (SELECT FROM outbox)"
        wait_until(lambda: database.execute(finished, [RUNS]).fetchone() == (True,), "the runs are made", 120)
    here.end(manager)


def _commit(here: Place, messages: Sequence[Outgoing]) -> float:
    """Seconds in which a manager commits these messages."""
    with here.database() as database:
        newest = "SELECT max(id) FROM event"
        (before,) = database.execute(newest).fetchone() or (0,)
        asyncio.run(_publish(here, messages))
        manager = here.start("manager")
        began = time.perf_counter()
        wait_until(
            lambda: (database.execute(newest).fetchone() or (0,))[0] >= before + len(messages), "all are committed", 180
        )
        duration = time.perf_counter() - began
        here.end(manager)
        (count,) = database.execute("SELECT count(*) FROM event WHERE id > %s", [before]).fetchone() or (0,)
        ended = "SELECT count(*) FROM step WHERE state = 'complete'"
        if count != len(messages) or database.execute(ended).fetchone() != (2 * RUNS,):
            raise RuntimeError(f"{count} of {len(messages)} messages were recorded, or not all had their effect")
    return duration


def status_embedded() -> Mapping[str, Any]:
    """The benchmark ``workflow.status.embedded``."""
    with place() as here:
        archive = str(here.settings.archive_root)
        here.start_postgresql()
        here.start("broker")
        _make_runs(here, archive)
        count = RUNS * len(ANSWERS)
        asyncio.run(_publish(here, _answers(archive)))
        raw = count / asyncio.run(_drain(here, count))
        duration = _commit(here, _answers(archive))
    return {
        "name": "workflow.status.embedded",
        "value": count / duration,
        "unit": "messages/s",
        "higher_is_better": True,
        "duration_s": duration,
        "n": count,
        "reference": {"name": "broker-drain", "value": raw},
        "ratio": count / duration / raw,
    }


BENCHMARKS = {"workflow.status.embedded": status_embedded}
