"""A connection that comes back: one transaction at a time, tried again until the database has answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import psycopg

from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
#: What another try can mend: the server is away or going, or another transaction was in the way.
_WORTH_A_RETRY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
#: Classes of SQLSTATE that are no message's fault either: a schema or a right is missing, or the server takes no writes now.
_SYSTEMIC = ("25", "3D", "3F", "42")
#: The class of what is too large for the server: an OperationalError to psycopg, but it will not fit next time either.
_TOO_LARGE = "54"


class Database:
    """One asynchronous connection, made again when it is lost. Not to be used by several tasks at once but for its lock."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction and commit it; again from the start where the database was away.

        ``work`` may run several times, so it must change nothing but the database. A commit whose answer was lost may
        have happened: what is written has to recognise its own repetition (deduplication keys do).
        """
        pause = _FIRST_PAUSE_S
        async with self._lock:
            while True:
                try:
                    connection = await self._get()
                    async with connection.transaction():
                        return await work(connection)
                except psycopg.Error as error:
                    if not _is_worth_a_retry(error):
                        raise
                    log.warning("database_away", detail=str(error).strip().split("\n")[0], sqlstate=error.sqlstate)
                    await self._drop()
                    await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                    pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        await self._drop()

    async def _get(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        return self._connection

    async def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None


def _is_worth_a_retry(error: psycopg.Error) -> bool:
    state = error.sqlstate or ""
    return not state.startswith(_TOO_LARGE) and (isinstance(error, _WORTH_A_RETRY) or state.startswith(_SYSTEMIC))
