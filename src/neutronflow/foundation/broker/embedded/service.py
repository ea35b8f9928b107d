"""``neutronflow broker``: the embedded STOMP broker as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path

from neutronflow.foundation.broker.embedded.broker import Broker
from neutronflow.foundation.broker.embedded.server import Client
from neutronflow.foundation.broker.embedded.store import Store
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.config import Settings
from neutronflow.foundation.errors import PortInUse
from neutronflow.foundation.service import begin
from neutronflow.foundation.telemetry import get_logger, notify_ready

log = get_logger(__name__)

_LAST_COMMIT_WITHIN_S = 2.0
_GOODBYE_WITHIN_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    asyncio.run(serve(begin("broker")))
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
    try:
        while not stop.is_set():
            _write_statistics(folder / "statistics.json", broker)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), own.statistics_every_s)
    finally:
        server.close()
        await _see_out(broker)
        store.close()


async def _see_out(broker: Broker) -> None:
    """Take nothing more in, confirm what is durable, and close all connections."""
    connections = list(broker.connections)
    for one in connections:
        one.hold()
    durable = asyncio.Event()
    broker.after_commit(durable.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(durable.wait(), _LAST_COMMIT_WITHIN_S)
    for one in connections:
        one.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_WITHIN_S):
            for one in connections:
                await one.closed.wait()


def _write_statistics(path: Path, broker: Broker) -> None:
    partial = path.with_suffix(".part")
    try:
        partial.write_text(broker.statistics_json())
        partial.replace(path)
    except OSError as error:
        # A full disk is no reason to stop: what is in the store can still be delivered.
        log.warning("broker_statistics_not_written", path=str(path), detail=str(error))
