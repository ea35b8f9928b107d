"""Messages a second through the embedded broker: persistent, 1 kB, confirmed and acknowledged one by one, fsync on.

Three processes: the broker, a sender with a receipt for each message, and a receiver with client-individual acknowledgement;
both are sessions of ours. The clock runs from the first message sent until the last one's acknowledgement is durable. Beside
it the raw limit of the store: the same bytes put into SQLite and taken out again, 500 a commit.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.support.place import Place, place
from neutronflow.foundation.broker.message import Outgoing, queue
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import load
from neutronflow.foundation.telemetry import configure_logging

QUEUE = queue("BENCHMARK")
COUNT = 60_000
BODY = os.urandom(1024)


async def _send(count: int) -> None:
    async with Session.from_settings(load(), user="agent") as session:
        await session.connected()
        await session.publish_many([Outgoing(destination=QUEUE, body=BODY) for _ in range(count)])


async def _receive(here: Place, count: int) -> float:
    """Seconds from the first message of a sender in another process to the last acknowledgement."""
    async with Session.from_settings(here.settings, user="manager") as session:
        await session.connected()
        subscription = await session.subscribe([QUEUE], prefetch=500)
        command = [sys.executable, "-m", "benchmarks.broker", str(count)]
        sender = await asyncio.create_subprocess_exec(*command, env=here.environ)
        first = await subscription.get()
        began = time.perf_counter()
        await session.ack(first)
        taken = 1
        while taken < count:
            batch = await subscription.get_batch(500)
            taken += len(batch)
            await session.ack(batch)
        await session.close()  # confirmed when all before it is durable
        duration = time.perf_counter() - began
        if await sender.wait() != 0:
            raise RuntimeError(f"the sender ended with {sender.returncode}")
    return duration


def _sqlite(folder: Path, count: int) -> float:
    """Seconds for the same in a bare SQLite."""
    database = sqlite3.connect(folder / "raw.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE message (seq INTEGER PRIMARY KEY, body BLOB)")
    began = time.perf_counter()
    for start in range(0, count, 500):
        rows = [(seq, BODY) for seq in range(start, start + 500)]
        for statement, values in (
            ("INSERT INTO message VALUES (?, ?)", rows),
            ("DELETE FROM message WHERE seq = ?", [row[:1] for row in rows]),
        ):
            database.execute("BEGIN")
            database.executemany(statement, values)
            database.execute("COMMIT")
    duration = time.perf_counter() - began
    database.close()
    return duration


def embedded() -> Mapping[str, Any]:
    """The benchmark ``broker.embedded``."""
    with place() as here:
        here.start("broker")
        duration = asyncio.run(_receive(here, COUNT))
        raw = COUNT / _sqlite(here.settings.data_dir, COUNT)
    return {
        "name": "broker.embedded",
        "value": COUNT / duration,
        "unit": "messages/s",
        "higher_is_better": True,
        "duration_s": duration,
        "n": COUNT,
        "reference": {"name": "sqlite", "value": raw},
        "ratio": COUNT / duration / raw,
    }


BENCHMARKS = {"broker.embedded": embedded}


if __name__ == "__main__":
    configure_logging("benchmark", level="warning")
    asyncio.run(_send(int(sys.argv[1])))
