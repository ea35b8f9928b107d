"""``neutronflow broker``: the embedded STOMP broker as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from neutronflow.foundation.broker.embedded.server import Broker, Client, statistics_json
from neutronflow.foundation.broker.embedded.store import Store
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import PortInUse
from neutronflow.foundation.telemetry import configure_logging, get_logger, notify_ready

log = get_logger(__name__)

_STATISTICS_EVERY_S = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    settings = load()
    configure_logging("broker", level=settings.core.log_level, fmt=settings.core.log_format)
    asyncio.run(serve(settings))
    return 0


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    own = settings.section("broker", BrokerSettings)
    passwords = {user: settings.secret(f"broker-{user}") for user in own.users}
    folder = settings.data_dir / "broker"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store(folder / "messages.sqlite", fsync=own.fsync)
    broker = Broker(store, passwords, own.max_frame_bytes)
    loop = asyncio.get_running_loop()
    port = own.port if own.port is not None else settings.port("stomp")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        server = await loop.create_server(lambda: Client(broker), settings.core.bind, port, backlog=256)
    except OSError as error:
        store.close()
        raise PortInUse(service="broker", where=f"{settings.core.bind}:{port}", detail=error.strerror) from error
    notify_ready(f"{sum(store.depths.values())} messages kept")
    log.info("broker_ready", port=port, messages=sum(store.depths.values()))
    statistics = folder / "statistics.json"
    try:
        while not stop.is_set():
            partial = statistics.with_suffix(".part")
            partial.write_text(statistics_json(broker))
            partial.replace(statistics)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _STATISTICS_EVERY_S)
    finally:
        server.close()
        for client in list(broker.clients):
            client._close()
        store.close()
