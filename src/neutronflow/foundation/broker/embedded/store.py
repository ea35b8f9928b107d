"""The broker's durable memory: SQLite in WAL mode, written by one thread with group commits.

Operations are handed over in order and committed in order; what was handed over while a commit ran goes into the next one.
Callbacks run on the event loop, in that same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.ids import new_id
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS message_of_queue ON message (queue, seq);
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL);
"""
_PAUSE_AFTER_FAILURE_S = 0.5
_LOCK_WITHIN_S = 2.0
_INSERT = "INSERT INTO message (seq, queue, headers, body) VALUES (?, ?, ?, ?)"
_WINDOW = "SELECT seq, headers, body FROM message WHERE queue = ? AND seq > ? ORDER BY seq"


class StoreUnusable(NeutronflowError):
    """The broker's store {path} cannot be used: {detail}."""

    code = "broker-store"


@dataclass(slots=True)
class Insert:
    """A message to be kept. ``headers`` are as they go out with it."""

    seq: int
    queue: str
    headers: bytes
    body: bytes
    done: Callable[[str | None], None]


@dataclass(slots=True)
class Delete:
    """A message whose consumer has acknowledged it."""

    seq: int


@dataclass(slots=True)
class Barrier:
    """Calls back when everything handed over before it is committed."""

    done: Callable[[str | None], None]


@dataclass(slots=True)
class Load:
    """Read messages of a queue beyond ``after``, until ``max_messages`` or ``max_bytes`` is reached."""

    queue: str
    after: int
    max_messages: int
    max_bytes: int
    #: Gets (rows of (seq, headers, body), whether there may be more).
    done: Callable[[list[tuple[int, bytes, bytes]], bool], None]


Operation = Insert | Delete | Barrier | Load


class Store:
    """The messages of all queues on disk. ``submit`` and the callbacks belong to the event loop."""

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._pending: list[Operation] = []
        self._wake = threading.Condition()
        self._stopping = False
        #: Deletions whose commit failed; the thread's own.
        self._undeleted: list[Delete] = []
        try:
            self._database = sqlite3.connect(
                path, timeout=_LOCK_WITHIN_S, isolation_level=None, check_same_thread=False
            )
            # Two brokers on one store would deliver everything twice.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'OFF'}")
            self._database.executescript(_SCHEMA)
            self._database.execute(
                "INSERT INTO identity SELECT ? WHERE NOT EXISTS (SELECT 1 FROM identity)", (new_id(),)
            )
            self._id: str = self._database.execute("SELECT id FROM identity").fetchone()[0]
            self.depths = dict(self._database.execute("SELECT queue, count(*) FROM message GROUP BY queue").fetchall())
            last = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'message'").fetchone()
        except sqlite3.Error as error:
            if "_database" in self.__dict__:
                self._database.close()
            raise StoreUnusable(path=path, detail=error) from error
        #: The highest sequence number ever used.
        self.last_seq: int = last[0] if last else 0
        self._thread = threading.Thread(target=self._work, name="broker-store", daemon=True)
        self._thread.start()

    def message_id(self, seq: int) -> bytes:
        """The id of a message: a number that no message of this or any other store has."""
        return f"{self._id}-{seq}".encode()

    def submit(self, operation: Operation) -> None:
        """Hand over one operation."""
        with self._wake:
            self._pending.append(operation)
            if len(self._pending) == 1:
                self._wake.notify()

    def close(self) -> None:
        """Commit what was handed over, and end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=10)
        self._database.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._pending and not self._stopping:
                    self._wake.wait()
                batch, self._pending = self._pending, []
                if not batch:
                    return
            self._commit(batch)

    def _commit(self, batch: list[Operation]) -> None:
        """One transaction for a batch; loads see what stands before them in the batch, and nothing behind."""
        callbacks: list[Callable[[], None]] = []
        changes: list[Insert | Delete | Barrier] = []
        for operation in batch:
            if isinstance(operation, Load):
                callbacks += self._change(changes)
                changes = []
                callbacks.append(self._load(operation))
            else:
                changes.append(operation)
        callbacks += self._change(changes)
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop.call_soon_threadsafe(_call_all, iter(callbacks))
        self._pause_after_failure()

    def _change(self, changes: list[Insert | Delete | Barrier]) -> list[Callable[[], None]]:
        """Commit these, and what to call back. Nothing of a failed commit is confirmed; its deletions are tried again."""
        inserts = [(one.seq, one.queue, one.headers, one.body) for one in changes if isinstance(one, Insert)]
        deletes = [(one.seq,) for one in changes if isinstance(one, Delete)]
        problem: str | None = None
        if inserts or deletes:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(_INSERT, inserts)
                self._database.executemany("DELETE FROM message WHERE seq = ?", deletes)
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                problem = str(error)
                log.error("broker_store_failed", path=str(self._path), detail=problem)
                self._undeleted += [one for one in changes if isinstance(one, Delete)]
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
        return [_calling(one.done, problem) for one in changes if not isinstance(one, Delete)]

    def _pause_after_failure(self) -> None:
        """Wait before what could not be deleted is tried again: the disk is full, say."""
        if not self._undeleted:
            return
        with self._wake:
            if not self._stopping:
                self._wake.wait(_PAUSE_AFTER_FAILURE_S)
                self._pending[:0] = self._undeleted
            self._undeleted = []

    def _load(self, load: Load) -> Callable[[], None]:
        rows: list[tuple[int, bytes, bytes]] = []
        size = 0
        try:
            for row in self._database.execute(_WINDOW, (load.queue, load.after)):
                if len(rows) >= load.max_messages or size >= load.max_bytes:
                    return lambda: load.done(rows, True)
                rows.append(row)
                size += len(row[2])
        except sqlite3.Error:
            return _calling_load(load.done)
        return lambda: load.done(rows, False)


def _calling(done: Callable[[str | None], None], problem: str | None) -> Callable[[], None]:
    return lambda: done(problem)


def _calling_load(done: Callable[[list[tuple[int, bytes, bytes]], bool], None]) -> Callable[[], None]:
    return lambda: done([], True)


def _call_all(callbacks: Iterator[Callable[[], None]]) -> None:
    try:
        for callback in callbacks:
            callback()
    except BaseException:
        # A fault in one must not take the others' receipts with it; the loop's handler logs it.
        asyncio.get_running_loop().call_soon(_call_all, callbacks)
        raise
