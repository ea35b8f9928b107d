"""Transactions that are tried again, and those that are not."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from neutronflow.store.connection import Connection, Database
from tests.support.postgres import Cluster


def test_what_is_too_large_for_the_server_is_not_tried_for_ever(cluster: Cluster) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("CREATE TEMP TABLE held (content text UNIQUE)")
        await connection.execute("INSERT INTO held SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g")

    async def scenario() -> None:
        database = Database(cluster.conninfo())
        try:
            async with asyncio.timeout(10):
                await database.transaction(work)
        finally:
            await database.close()

    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        asyncio.run(scenario())
