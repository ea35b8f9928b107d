"""Runs go to the translator: one connection a run, the one that is being taken first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from neutronflow.domain.adara.packets import Empty, TranslationComplete, decode, encode
from neutronflow.domain.adara.wire import BadPacket, PacketReader
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.stream.announcements import Announcer
from neutronflow.instrument.stream.live import send_piece
from neutronflow.instrument.stream.settings import StreamSettings
from neutronflow.instrument.stream.spool import MANUAL, TRANSLATED, Container, Spool

log = get_logger(__name__)

_FIRST_PAUSE_S: Final = 1.0
_CONNECT_S: Final = 5.0
#: The answer comes when the file is written; for a large run that takes its time.
_ANSWER_S: Final = 600.0
_LONGEST_ANSWER: Final = 128 << 10


class Sender:
    """Sends each run of the spool to the translator until it has said that the run is translated, or never will be."""

    def __init__(self, spool: Spool, settings: StreamSettings, port: int, announcer: Announcer) -> None:
        self._spool = spool
        self._settings = settings
        self._where = (settings.translator_host, port)
        self._announcer = announcer
        self._slots = asyncio.Semaphore(settings.max_sent)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def waiting(self) -> int:
        """How many runs are not translated yet."""
        return len(self._tasks)

    def add(self, container: Container) -> None:
        """Take care of a run. The one that is being taken needs no slot: it must not wait for older ones."""
        name = container.path.name
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.create_task(self._see_to(container, live=not container.closed))
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    def pending(self) -> list[Container]:
        """The runs of the spool whose end was written and that nobody has dealt with, oldest first."""
        found = (one for one in self._spool.containers if one.run and one.closed)
        return [one for one in found if not one.has(TRANSLATED) and not one.has(MANUAL)]

    async def stop(self) -> None:
        """Send no more; what is not translated is sent again by the next service."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_to(self, container: Container, *, live: bool) -> None:
        refused, pause = 0, _FIRST_PAUSE_S
        while True:
            try:
                async with contextlib.nullcontext() if live else self._slots:
                    answer = await self._send(container)
            except (OSError, BadPacket, TimeoutError) as error:
                detail = str(error) or type(error).__name__
                log.warning("translator_unreachable", run=container.run, detail=detail, again_s=pause)
                self._announcer.run(container, f"STC Connection Error - {detail}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._settings.send_again_s)
                continue
            if answer.status == 0:
                container.mark(TRANSLATED, answer.reason)
                reason = f"Translation Succeeded - {answer.reason}" if answer.reason else "Translation Succeeded"
                self._announcer.run(container, reason)
                log.info("run_translated", run=container.run, answer=answer.reason)
                return
            if answer.status < 0x8000 and refused < self._settings.max_requeue:
                refused += 1
                self._announcer.run(container, f"STC transient Error - {answer.reason}")
                log.warning("translation_postponed", run=container.run, answer=answer.reason, times=refused)
                await asyncio.sleep(min(pause * 2**refused, self._settings.send_again_s))
                continue
            container.mark(MANUAL, answer.reason)
            self._announcer.run(container, f"Needs Manual Translation - {answer.reason}")
            log.error("translation_refused", run=container.run, answer=answer.reason)
            return

    async def _send(self, container: Container) -> TranslationComplete:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            async with asyncio.timeout(_CONNECT_S):
                await loop.sock_connect(connection, self._where)
            self._announcer.run(container, "SMS Start Run Sent to STC")
            answering = asyncio.create_task(_read_answer(connection))
            sending = asyncio.create_task(self._copy(container, connection))
            try:
                # It may refuse the run before its end.
                await asyncio.wait({answering, sending}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    sending.result()
                async with asyncio.timeout(_ANSWER_S):
                    return await answering
            finally:
                for task in (answering, sending):
                    task.cancel()
                await asyncio.gather(answering, sending, return_exceptions=True)

    async def _copy(self, container: Container, connection: socket.socket) -> None:
        async for piece in self._spool.follow(container, paused=False):
            await send_piece(connection, piece)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, encode(Empty(data_done=True), 0, 0))


async def _read_answer(connection: socket.socket) -> TranslationComplete:
    loop = asyncio.get_running_loop()
    reader = PacketReader(_LONGEST_ANSWER)
    while data := await loop.sock_recv(connection, 1 << 16):
        for packet in reader.feed(data):
            answer = decode(packet)
            if isinstance(answer, TranslationComplete):
                return answer
    raise ConnectionResetError("it ended without an answer")
