"""The processes that translate: one a run, forked from one that has everything loaded already.

So a run starts within milliseconds, and shares the memory of what is loaded with all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from neutronflow.instrument.translation import worker
from neutronflow.instrument.translation.outcome import Failure, Identity, Translated, WorkerLost


class Workers:
    """Runs at most ``most`` processes at a time; close it at the end."""

    def __init__(self, most: int, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([f"{__package__}.preload"])
        #: One thread listens to one process.
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="run")
        self._starting = threading.Lock()
        self._running: set[BaseProcess] = set()
        self._closed = False

    async def warm(self) -> None:
        """Return when runs can start at once."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._start_one_that_does_nothing)

    async def translate(
        self, connection: socket.socket, path: Path, hear: Callable[[Identity | str], None]
    ) -> Translated | Failure | None:
        """Have what comes on a connection translated into ``path``; ``hear`` gets what the process tells meanwhile.

        None where not one byte came.
        """
        loop = asyncio.get_running_loop()

        def hear_safely(told: Identity | str) -> None:
            # The loop may have ended meanwhile: nobody wants to hear it then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(hear, told)

        return await loop.run_in_executor(self._threads, self._run, connection, path, hear_safely)

    def close(self) -> None:
        """End all processes, wherever they are."""
        with self._starting:
            self._closed = True
            for process in self._running:
                process.kill()
        self._threads.shutdown()

    def _start_one_that_does_nothing(self) -> None:
        process = self._context.Process(target=_nothing)
        process.start()
        process.join()

    def _run(
        self, connection: socket.socket, path: Path, hear: Callable[[Identity | str], None]
    ) -> Translated | Failure | None:
        ours, theirs = self._context.Pipe(duplex=False)
        with ours:
            with theirs, self._starting:
                arguments = (connection, theirs, path, self._idle_timeout_s)
                process = self._context.Process(target=worker.work, args=arguments, daemon=True)
                if self._closed:
                    return None
                process.start()
                self._running.add(process)
            identity, last = _listen(ours, hear)
        process.join()
        with self._starting:
            self._running.discard(process)
        if isinstance(last, EOFError):
            return Failure.of(WorkerLost(exit_code=process.exitcode), identity, 0)
        return last


def _listen(
    report: Connection, hear: Callable[[Identity | str], None]
) -> tuple[Identity, Translated | Failure | EOFError | None]:
    """Pass on what a process tells; whose run it is, and its last word (EOFError: it was cut short)."""
    identity = Identity()
    while True:
        try:
            told = report.recv()
        except (EOFError, OSError):
            return identity, EOFError()
        if isinstance(told, Identity):
            identity = told
        elif told != worker.RECEIVED:
            return identity, told
        hear(told)


def _nothing() -> None:
    """What the first process does: it is there when everything is loaded."""
