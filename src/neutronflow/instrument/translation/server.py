"""The translator's server: one connection a run, answered by TRANSLATION COMPLETE."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections.abc import Mapping
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
from neutronflow.instrument.translation.assembler import Assembler, Translated
from neutronflow.instrument.translation.outbox import Outbox
from neutronflow.instrument.translation.settings import TranslatorSettings

log = get_logger(__name__)

_SUCCESS: Final = 0x0000
_TRANSIENT: Final = 0x0001
_PERMANENT: Final = 0x8000

_READ_BYTES = 1 << 20
#: A sender that pauses for this long gets its data worked on at once, however little it is.
_PAUSE_S = 0.1
#: ... and so does one that never pauses, in such intervals.
_AT_LEAST_EVERY_S = 1.0
#: After an answer, what the sender still sends is thrown away for this long, so that it can read the answer.
_DRAIN_S = 5.0


class SenderSilent(NeutronflowError):
    """The sender was silent for {seconds:g} s, {offset} bytes into the stream."""

    code = "sender-silent"


class SenderLost(NeutronflowError):
    """The connection was lost {offset} bytes into the stream: {detail}."""

    code = "sender-lost"


class DiskTrouble(NeutronflowError):
    """The file cannot be written: {detail}."""

    code = "disk-trouble"


class TranslatorFault(NeutronflowError):
    """The translator has a fault that this stream brings to light ({detail}); its log says more."""

    code = "translator-fault"


#: What may be gone when the same stream is sent again.
_PASSING = (SenderSilent, SenderLost, DiskTrouble)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a translation ended."""

    status: int
    reason: str


class TranslationServer:
    """Accepts streams and translates each in threads of its own, several at a time.

    Unfinished files lie in ``work_dir``, which is this server's alone, those of failed translations in ``failed_dir``; both
    are on the archive's file system.
    """

    def __init__(
        self,
        facilities: Facilities,
        settings: TranslatorSettings,
        session: Session,
        outbox: Outbox,
        *,
        work_dir: Path,
        failed_dir: Path,
    ) -> None:
        self._facilities = facilities
        self._settings = settings
        self._session = session
        self._outbox = outbox
        self._work_dir = work_dir
        self._failed_dir = failed_dir
        self._slots = asyncio.Semaphore(settings.max_runs)
        self._numbers = itertools.count(1)
        #: Connections whose run has come wholly, but is not answered yet.
        self._finishing: set[asyncio.Task[None]] = set()

    def clean(self) -> int:
        """Remove what a killed translator has left behind; how many files that were."""
        self._work_dir.mkdir(parents=True, exist_ok=True)
        stale = [path for path in self._work_dir.iterdir() if path.is_file()]
        for path in stale:
            path.unlink()
        return len(stale)

    async def settle(self, seconds: float) -> None:
        """Wait until the runs that have come wholly are published and answered, but not longer than this."""
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=seconds)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to the answer."""
        try:
            async with self._slots:
                answer = await self._translate(reader)
            if answer is not None:
                await self._answer(reader, writer, answer)
        except OSError as error:
            log.warning("sender_gone", detail=str(error))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _translate(self, reader: asyncio.StreamReader) -> Answer | None:
        """Translate what comes; None where nothing at all came (somebody looked whether the port is open)."""
        path = self._work_dir / f"{int(time.time() * 1000)}-{os.getpid()}-{next(self._numbers)}.nxs.h5"
        assembler = Assembler(path)
        beat = asyncio.create_task(self._announce(assembler))
        try:
            if not await self._receive(reader, assembler):
                return None
            self._note_finishing()
            translated = await asyncio.to_thread(assembler.finish)
            return await asyncio.to_thread(self._publish, translated, path)
        except NeutronflowError as error:
            return await self._give_up(assembler, path, error)
        except (OSError, RuntimeError, MemoryError) as error:
            # What h5py raises where the disk is full depends on where it notices.
            return await self._give_up(assembler, path, DiskTrouble(detail=error))
        except Exception as error:
            # The one boundary: a stream that brings a fault of ours to light stops no other stream.
            log.exception("translator_fault", stream_bytes=assembler.offset)
            return await self._give_up(assembler, path, TranslatorFault(detail=f"{type(error).__name__}: {error}"))
        finally:
            beat.cancel()

    def _note_finishing(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _receive(self, reader: asyncio.StreamReader, assembler: Assembler) -> bool:
        """Take the stream, up to its end or DATA_DONE; False where not one byte came."""
        last_data = worked = time.monotonic()
        while not assembler.data_done:
            try:
                async with asyncio.timeout(_PAUSE_S):
                    data = await reader.read(_READ_BYTES)
            except TimeoutError:
                await asyncio.to_thread(assembler.flush)
                worked = time.monotonic()
                if worked - last_data > self._settings.idle_timeout_s:
                    raise SenderSilent(seconds=self._settings.idle_timeout_s, offset=assembler.offset) from None
                continue
            except OSError as error:
                raise SenderLost(offset=assembler.offset, detail=error) from error
            if not data:
                break
            last_data = time.monotonic()
            await asyncio.to_thread(assembler.feed, data)
            if last_data - worked > _AT_LEAST_EVERY_S:
                await asyncio.to_thread(assembler.flush)
                worked = last_data
        return assembler.offset > 0

    def _publish(self, translated: Translated, path: Path) -> Answer:
        """Put the file into the archive, then the message into the outbox: only then is the sender told."""
        run, experiment = self._identify(translated)
        target = self._facilities.nexus_file(run, experiment)
        kept = publish(path, target)
        told = (announcements.data_ready, announcements.finished)
        self._outbox.add(*(message(run, experiment, str(target)) for message in told))
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
        long, short = translated.beamline.long_name, translated.beamline.short_name
        return Answer(_SUCCESS, f"{run.facility} {long} ({short}) Run {run.run_number} {experiment}")

    def _identify(self, translated: Translated) -> tuple[RunKey, str]:
        run = self._facilities.run_key(translated.facility, translated.beamline.short_name, translated.run_number)
        return run, self._facilities.experiment(run.facility, translated.experiment)

    async def _give_up(self, assembler: Assembler, path: Path, error: NeutronflowError) -> Answer:
        status = _TRANSIENT if isinstance(error, _PASSING) else _PERMANENT
        reason = f"{assembler.identity} - {error}"
        log.warning("translation_failed", code=error.code, reason=reason, stream_bytes=assembler.offset)
        report = {"code": error.code, "reason": reason, "stream_bytes": assembler.offset, "at": time.time()}
        await asyncio.to_thread(self._set_aside, assembler, path, report)
        run = self._run_of(assembler)
        if run is not None:
            experiment = assembler.description.text("proposal_id") if assembler.description else ""
            await self._session.send_nowait(announcements.failed(run, experiment, status, reason))
        return Answer(status, reason)

    def _set_aside(self, assembler: Assembler, path: Path, report: Mapping[str, object]) -> None:
        """Complete the file as far as it goes, and keep it with the report."""
        try:
            assembler.salvage(str(report["reason"]))
        except Exception as error:  # noqa: BLE001 - part of the same boundary: whatever failed once may fail again
            log.warning("not_salvaged", detail=str(error))
        assembler.abandon()
        try:
            set_aside(path, self._failed_dir, json.dumps(report), self._settings.keep_failed)
        except OSError as error:
            log.warning("not_set_aside", file=path.name, detail=str(error))
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    async def _announce(self, assembler: Assembler) -> None:
        """Tell that a translation has begun, once it is known of which run, and that it goes on."""
        run = None
        while run is None:
            await asyncio.sleep(0.2)
            run = self._run_of(assembler)
        await self._session.send_nowait(announcements.started(run))
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            await self._session.send_nowait(announcements.heartbeat(run))

    def _run_of(self, assembler: Assembler) -> RunKey | None:
        description, beamline = assembler.description, assembler.beamline
        if description is None or beamline is None or not assembler.run_number:
            return None
        with contextlib.suppress(NeutronflowError):
            facility = description.text("facility_name").strip()
            return self._facilities.run_key(facility, beamline.short_name, assembler.run_number)
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        seconds, fraction = divmod(time.time() - EPICS_EPOCH_UNIX, 1.0)
        stamp = (int(seconds), int(fraction * 1e9))
        writer.write(encode(TranslationComplete(answer.status, answer.reason), *stamp))
        writer.write(encode(Empty(data_done=False), 0, 0))
        await writer.drain()
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while await reader.read(_READ_BYTES):
                    pass
