"""``neutronflow translator``: the translator as a process."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket

from neutronflow.domain.facility import facilities
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import PortInUse
from neutronflow.foundation.telemetry import configure_logging, get_logger, notify_ready
from neutronflow.instrument.translation.compiled import use_cache
from neutronflow.instrument.translation.outbox import Outbox
from neutronflow.instrument.translation.settings import TranslatorSettings

log = get_logger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    settings = load()
    configure_logging("translator", level=settings.core.log_level, fmt=settings.core.log_format)
    use_cache(settings.data_dir)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    # Imported here, as this loads compiled code from the cache that was named just now.
    from neutronflow.instrument.translation.compiled import warm
    from neutronflow.instrument.translation.server import TranslationServer

    own = settings.section("translator", TranslatorSettings)
    port = settings.port("translator")
    known = facilities(settings.archive_root, settings.table("facilities"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await asyncio.to_thread(warm)
    async with Session.from_settings(settings, user="translator") as session:
        outbox = Outbox(settings.data_dir / "translator" / "outbox")
        work_dir = settings.archive_root / ".translating" / f"{socket.gethostname()}-{port}"
        translator = TranslationServer(known, own, session, outbox, work_dir)
        stale = translator.clean()
        try:
            server = await asyncio.start_server(translator.serve, settings.core.bind, port, limit=4 << 20)
        except OSError as error:
            raise PortInUse(
                service="translator", where=f"{settings.core.bind}:{port}", detail=os.strerror(error.errno or 0)
            ) from error
        await session.connected()
        publishing = asyncio.create_task(outbox.publish_forever(session))
        notify_ready("waiting for runs")
        log.info("translator_ready", port=port, archive=str(settings.archive_root), stale_files=stale)
        await stop.wait()
        server.close()
        publishing.cancel()
