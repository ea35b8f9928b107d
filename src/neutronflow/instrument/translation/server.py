"""The translator's server: one connection a run, answered by TRANSLATION COMPLETE."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
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


class DiskTrouble(NeutronflowError):
    """The file cannot be written: {detail}."""

    code = "disk-trouble"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a translation ended."""

    status: int
    reason: str


class TranslationServer:
    """Accepts streams and translates each in threads of its own, several at a time."""

    def __init__(
        self, facilities: Facilities, settings: TranslatorSettings, session: Session, outbox: Outbox, work_dir: Path
    ) -> None:
        self._facilities = facilities
        self._settings = settings
        self._session = session
        self._outbox = outbox
        self._work_dir = work_dir
        self._slots = asyncio.Semaphore(settings.max_runs)
        self._numbers = itertools.count(1)
        self.translated = 0
        self.failed = 0

    def clean(self) -> int:
        """Remove what a killed translator has left behind; how many files that were."""
        self._work_dir.mkdir(parents=True, exist_ok=True)
        stale = [path for path in self._work_dir.iterdir() if path.is_file()]
        for path in stale:
            path.unlink()
        return len(stale)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to the answer."""
        try:
            async with self._slots:
                answer = await self._translate(reader)
            await self._answer(reader, writer, answer)
        except OSError as error:
            log.warning("sender_gone", detail=str(error))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _translate(self, reader: asyncio.StreamReader) -> Answer:
        path = self._work_dir / f"{int(time.time() * 1000)}-{next(self._numbers)}.nxs.h5"
        assembler = Assembler(path)
        beat = asyncio.create_task(self._announce(assembler))
        try:
            return await self._receive(reader, assembler, path)
        except NeutronflowError as error:
            status = _TRANSIENT if isinstance(error, SenderSilent | DiskTrouble) else _PERMANENT
            return await self._give_up(assembler, path, status, error)
        except (OSError, RuntimeError, MemoryError) as error:
            # What h5py raises where the disk is full depends on where it notices. A lost connection is one, too.
            return await self._give_up(assembler, path, _TRANSIENT, DiskTrouble(detail=error))
        finally:
            beat.cancel()

    async def _receive(self, reader: asyncio.StreamReader, assembler: Assembler, path: Path) -> Answer:
        worked = time.monotonic()
        last_data = worked
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
            if not data:
                break
            last_data = time.monotonic()
            await asyncio.to_thread(assembler.feed, data)
            if last_data - worked > _AT_LEAST_EVERY_S:
                await asyncio.to_thread(assembler.flush)
                worked = last_data
        translated = await asyncio.to_thread(assembler.finish)
        return await asyncio.to_thread(self._publish, translated, path)

    def _publish(self, translated: Translated, path: Path) -> Answer:
        """Put the file into the archive, then the message into the outbox: only then is the sender told."""
        run, experiment = self._identify(translated)
        target = self._facilities.nexus_file(run, experiment)
        kept = publish(path, target)
        self._outbox.add(announcements.data_ready(run, experiment, str(target)))
        self._outbox.add(announcements.finished(run, experiment, str(target)))
        self.translated += 1
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

    async def _give_up(self, assembler: Assembler, path: Path, status: int, error: NeutronflowError) -> Answer:
        self.failed += 1
        assembler.abandon()
        reason = f"{assembler.identity}: {error}"
        log.warning("translation_failed", code=error.code, reason=reason, stream_bytes=assembler.offset)
        report = {"code": error.code, "reason": reason, "stream_bytes": assembler.offset, "at": time.time()}
        with contextlib.suppress(OSError):
            set_aside(path, self._work_dir / "failed", json.dumps(report))
        run = self._run_of(assembler)
        if run is not None:
            experiment = assembler.description.text("proposal_id") if assembler.description else ""
            await self._session.send_nowait(announcements.failed(run, experiment, status, reason))
        return Answer(status, reason)

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
        writer.write(encode(Empty(data_done=False), *stamp))
        await writer.drain()
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while await reader.read(_READ_BYTES):
                    pass
