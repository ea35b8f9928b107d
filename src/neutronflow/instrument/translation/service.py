"""``neutronflow translator``: the translator as a process."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING

from neutronflow.domain.facility import facilities
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import PortInUse
from neutronflow.foundation.telemetry import configure_logging, get_logger, notify_ready
from neutronflow.instrument.translation.compiled import use_cache
from neutronflow.instrument.translation.outbox import Outbox
from neutronflow.instrument.translation.settings import TranslatorSettings

if TYPE_CHECKING:
    from neutronflow.instrument.translation.server import TranslationServer

log = get_logger(__name__)

#: At the end, runs that have come wholly get so long to be published; the rest is sent again by their senders.
_SETTLE_S = 3.0


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
        unfinished = settings.archive_root / ".translating"
        translator = TranslationServer(
            known,
            own,
            session,
            outbox,
            work_dir=unfinished / f"{socket.gethostname()}-{port}",
            failed_dir=unfinished / "failed",
        )
        server = await _listen(translator, settings.core.bind, port)
        # Only now: whoever has the port owns the files below.
        stale = translator.clean()
        await server.start_serving()
        publishing = asyncio.create_task(outbox.publish_forever(session))
        ready = asyncio.create_task(_say_ready(session, port, str(settings.archive_root), stale))
        await stop.wait()
        server.close()
        await translator.settle(_SETTLE_S)
        ready.cancel()
        publishing.cancel()


async def _listen(translator: TranslationServer, host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.start_server(translator.serve, host, port, limit=4 << 20, start_serving=False)
    except OSError as error:
        raise PortInUse(service="translator", where=f"{host}:{port}", detail=os.strerror(error.errno or 0)) from error


async def _say_ready(session: Session, port: int, archive: str, stale: int) -> None:
    """Runs are taken without a broker, too; ready is what can also tell of them."""
    await session.connected()
    notify_ready("waiting for runs")
    log.info("translator_ready", port=port, archive=archive, stale_files=stale)
