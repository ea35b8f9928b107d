"""``neutronflow translator``: the translator as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
from typing import Any

from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings
from neutronflow.foundation.service import begin, listen
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.instrument.translation.compiled import use_cache
from neutronflow.instrument.translation.outbox import Outbox
from neutronflow.instrument.translation.server import TranslationServer
from neutronflow.instrument.translation.settings import TranslatorSettings
from neutronflow.instrument.translation.workers import Workers

log = get_logger(__name__)

#: At the end, runs that have come wholly get so long to be published; the others are sent again by their senders.
_SETTLE_S = 3.0


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    settings = begin("translator")
    use_cache(settings.data_dir)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    own = settings.section("translator", TranslatorSettings)
    port = settings.port("translator")
    known = known_facilities(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    workers = Workers(own.max_runs, own.idle_timeout_s)
    with listen("translator", settings.core.bind, port) as listener:
        async with Session.from_settings(settings, user="translator") as session:
            outbox = Outbox(settings.data_dir / "translator" / "outbox")
            unfinished = settings.archive_root / ".translating"
            translator = TranslationServer(
                known,
                own,
                session,
                outbox,
                workers,
                work_dir=unfinished / f"{socket.gethostname()}-{port}",
                failed_dir=unfinished / "failed",
            )
            # Only now: whoever has the port owns the files there.
            stale = translator.clean()
            serving: asyncio.Future[Any] = asyncio.gather(
                translator.accept_forever(listener),
                outbox.publish_forever(session),
                _say_ready(workers, session, port, stale),
            )
            stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            await translator.stop(_SETTLE_S)
            await asyncio.to_thread(workers.close)
            if serving.done():  # it does not end but by an error
                serving.result()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def _say_ready(workers: Workers, session: Session, port: int, stale: int) -> None:
    """Runs are taken without a broker, too; ready is what can also tell of them."""
    await workers.warm()
    await session.connected()
    notify_ready("waiting for runs")
    log.info("translator_ready", port=port, stale_files=stale)
