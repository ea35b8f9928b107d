"""The translator's server: one connection a run, answered by TRANSLATION COMPLETE."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neutronflow.domain.adara.packets import Empty, TranslationComplete, encode
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.domain.facility import Facilities, RunKey
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.translation import announcements
from neutronflow.instrument.translation.archive import publish, set_aside
from neutronflow.instrument.translation.outbox import Outbox
from neutronflow.instrument.translation.outcome import DiskTrouble, Failure, Identity, Translated
from neutronflow.instrument.translation.settings import TranslatorSettings
from neutronflow.instrument.translation.workers import Workers

log = get_logger(__name__)

_SUCCESS: Final = 0x0000
_TRANSIENT: Final = 0x0001
_PERMANENT: Final = 0x8000

#: After an answer, what the sender still sends is thrown away for this long, so that it can read the answer.
_DRAIN_S = 5.0
#: Where no connection can be accepted (no file handles are left, say), the next attempt is made after this.
_ACCEPT_AGAIN_S = 1.0
#: So many senders may be connected without being served; more wait in the listener's queue.
_MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """How a translation ended."""

    status: int
    reason: str


class TranslationServer:
    """Accepts streams, has each translated by a process of its own, publishes the file and answers.

    Unfinished files lie in ``work_dir``, which is this server's alone, those of failed translations in ``failed_dir``; both
    are on the archive's file system.
    """

    def __init__(
        self,
        facilities: Facilities,
        settings: TranslatorSettings,
        session: Session,
        outbox: Outbox,
        workers: Workers,
        *,
        work_dir: Path,
        failed_dir: Path,
    ) -> None:
        self._facilities = facilities
        self._settings = settings
        self._session = session
        self._outbox = outbox
        self._workers = workers
        self._work_dir = work_dir
        self._failed_dir = failed_dir
        self._slots = asyncio.Semaphore(settings.max_runs)
        #: Connections that are held, with or without a slot.
        self._places = asyncio.Semaphore(settings.max_runs + _MOST_WAITING)
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        #: Those whose run has come wholly, but is not answered yet.
        self._finishing: set[asyncio.Task[None]] = set()

    def clean(self) -> int:
        """Remove what a killed translator has left behind; how many files that were."""
        self._work_dir.mkdir(parents=True, exist_ok=True)
        stale = [path for path in self._work_dir.iterdir() if path.is_file()]
        for path in stale:
            path.unlink()
        return len(stale)

    async def accept_forever(self, listener: socket.socket) -> None:
        """Take connections; a run waits for a slot once its first byte has come, so that silent senders take none."""
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.error("no_connection_accepted", detail=str(error))
                self._places.release()
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            task = asyncio.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(self._finishing.discard)

    async def stop(self, seconds: float) -> None:
        """Let runs that have come wholly be published and answered, within so long; end all others."""
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, connection: socket.socket) -> None:
        """One connection, from its first byte to the answer."""
        with connection:
            try:
                if not await _readable(connection, self._settings.idle_timeout_s):
                    log.warning("sender_never_spoke", seconds=self._settings.idle_timeout_s)
                    return
                async with self._slots:
                    answer = await self._translate(connection)
            finally:
                self._places.release()
            if answer is not None:
                try:
                    await _send_answer(connection, answer)
                except OSError as error:
                    log.warning("sender_gone", detail=str(error))

    async def _translate(self, connection: socket.socket) -> Answer | None:
        path = self._work_dir / f"{int(time.time() * 1000)}-{os.getpid()}-{next(self._numbers)}.nxs.h5"
        task = asyncio.current_task()
        known: asyncio.Future[Identity] = asyncio.get_running_loop().create_future()

        def hear(told: Identity | str) -> None:
            if not isinstance(told, Identity):
                if task is not None and not task.done():
                    self._finishing.add(task)
            elif not known.done():
                known.set_result(told)

        announcing = asyncio.create_task(self._announce(known))
        try:
            ended = await self._workers.translate(connection, path, hear)
            published = await asyncio.to_thread(self._publish, ended, path) if isinstance(ended, Translated) else ended
            return await self._give_up(published, path) if isinstance(published, Failure) else published
        finally:
            announcing.cancel()

    def _publish(self, translated: Translated, path: Path) -> Answer | Failure:
        """Put the file into the archive, then the message into the outbox: only then is the sender told."""
        beamline = translated.beamline
        whose = Identity(
            translated.facility, beamline.long_name, beamline.short_name, translated.experiment, translated.run_number
        )
        try:
            run = self._facilities.run_key(translated.facility, beamline.short_name, translated.run_number)
            experiment = self._facilities.experiment(run.facility, translated.experiment)
            target = self._facilities.nexus_file(run, experiment)
            kept = publish(path, target)
            told = announcements.File(run, experiment, str(target), simulated=translated.simulated)
            self._outbox.add(told.data_ready(), told.finished())
        except NeutronflowError as error:
            return Failure.of(error, whose, translated.stream_bytes)
        except OSError as error:
            return Failure.of(DiskTrouble(detail=error), whose, translated.stream_bytes)
        log.info(
            "run_translated",
            run=str(run),
            experiment=experiment,
            file=str(target),
            pulses=translated.pulses,
            events=translated.events,
            stream_bytes=translated.stream_bytes,
            earlier_version=str(kept) if kept else None,
            problems=translated.problems or None,
        )
        return Answer(_SUCCESS, str(whose))

    async def _give_up(self, failure: Failure, path: Path) -> Answer:
        status = _TRANSIENT if failure.passing else _PERMANENT
        log.warning(
            "translation_failed",
            code=failure.code,
            reason=failure.reason,
            stream_bytes=failure.stream_bytes,
            trace=failure.trace or None,
        )
        await asyncio.to_thread(self._set_aside, failure, path)
        run = self._run_of(failure.identity)
        if run is not None:
            told = announcements.failed(run, failure.identity.experiment, status, failure.reason)
            await self._session.send_nowait(told)
        return Answer(status, failure.reason)

    def _set_aside(self, failure: Failure, path: Path) -> None:
        report = {
            "code": failure.code,
            "reason": failure.reason,
            "stream_bytes": failure.stream_bytes,
            "at": time.time(),
            "trace": failure.trace,
        }
        try:
            if failure.code == DiskTrouble.code:  # what is left of it is of no use, and the disk may need the room
                path.unlink(missing_ok=True)
            set_aside(path, self._failed_dir, json.dumps(report), self._settings.keep_failed)
        except OSError as error:
            log.warning("not_set_aside", file=path.name, detail=str(error))

    async def _announce(self, known: asyncio.Future[Identity]) -> None:
        """Tell that a translation has begun, once it is known of which run, and that it goes on."""
        run = self._run_of(await known)
        if run is None:
            return
        await self._session.send_nowait(announcements.started(run))
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            await self._session.send_nowait(announcements.heartbeat(run))

    def _run_of(self, identity: Identity) -> RunKey | None:
        with contextlib.suppress(NeutronflowError):
            return self._facilities.run_key(identity.facility, identity.short_name, identity.run_number)
        return None


async def _readable(connection: socket.socket, seconds: float) -> bool:
    """Whether something comes within so long: a first byte, or the end."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(connection, came.set)
    try:
        async with asyncio.timeout(seconds):
            await came.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(connection)
    return True


async def _send_answer(connection: socket.socket, answer: Answer) -> None:
    seconds, fraction = divmod(time.time() - EPICS_EPOCH_UNIX, 1.0)
    complete = encode(TranslationComplete(answer.status, answer.reason), int(seconds), int(fraction * 1e9))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            await loop.sock_sendall(connection, complete + encode(Empty(data_done=False), 0, 0))
            connection.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(connection, 1 << 16):
                pass
