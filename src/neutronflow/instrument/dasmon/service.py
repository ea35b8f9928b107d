"""``neutronflow dasmon``: DASMON as a process."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Final

from neutronflow.clients.livestream import FROM_RUN_START, LiveStream
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.messages.combus import Fields, MessageType, Sender
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings
from neutronflow.foundation.service import begin, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.instrument.dasmon.observer import Observer
from neutronflow.instrument.dasmon.settings import DasmonSettings
from neutronflow.instrument.dasmon.variables import Variable
from neutronflow.store.connection import Connection, Database
from neutronflow.store.dsn import dsn
from neutronflow.store.named import query

log = get_logger(__name__)

#: What has changed is told within this.
_LOOK_EVERY_S: Final = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Watch until SIGTERM."""
    run_until_stopped(_serve(begin("dasmon")))
    return 0


async def _serve(settings: Settings) -> None:
    own = settings.section("dasmon", DasmonSettings)
    beamline = settings.section("beamline", BeamlineSettings)
    port = own.port or settings.port("live_stream")
    observer = Observer(own, beamline, own.host, port)
    stream = LiveStream(own.host, port, start=FROM_RUN_START)
    database = Database(dsn(settings, "dasmon"))
    async with Session.from_settings(settings, user="dasmon") as session:
        teller = Teller(observer, own, session, Sender(beamline.facility, beamline.short_name, "DASMON"))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stream.follow(observer))
                tasks.create_task(teller.tell_forever())
                tasks.create_task(teller.beat())
                tasks.create_task(_store_forever(database, observer, beamline, own.database_every_s))
                log.info("dasmon_ready", stream=f"{own.host}:{port}")
                notify_ready(f"watching {beamline.short_name}")
        finally:
            await database.close()


class Teller:
    """Tells all who listen what the observer has seen."""

    def __init__(self, observer: Observer, settings: DasmonSettings, session: Session, sender: Sender) -> None:
        self._observer = observer
        self._settings = settings
        self._session = session
        self._sender = sender

    async def tell_forever(self) -> None:
        """News at once; metrics and repetitions when they are due."""
        own, observer = self._settings, self._observer
        due = dict.fromkeys(("metrics", "stream", "state"), time.monotonic())
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if not self._session.is_connected:
                # What is new stays so until there is somebody to be told.
                due["state"] = 0.0
                continue
            now = time.monotonic()
            if now >= due["state"]:
                due["state"] = now + own.repeat_every_s
                observer.news |= set(observer.told)
            news, observer.news = sorted(observer.news), set()
            for one in news:
                await self._app(one, observer.told[one])
            if now >= due["metrics"] or MessageType.DASMON_RUN_STATUS in news:
                due["metrics"] = now + own.metrics_every_s
                await self._app(MessageType.DASMON_BEAM_METRICS, observer.metrics.beam())
                await self._app(MessageType.DASMON_RUN_METRICS, observer.metrics.run())
            if now >= due["stream"]:
                due["stream"] = now + own.stream_metrics_every_s
                await self._app(MessageType.DASMON_STREAM_METRICS, observer.metrics.stream())

    async def _app(self, message_type: MessageType, fields: Fields) -> None:
        await self._session.send_nowait(self._sender.broadcast("APP", message_type, fields))

    async def beat(self) -> None:
        """Heartbeats."""
        while True:
            await self._session.send_nowait(self._sender.heartbeat())
            await asyncio.sleep(self._settings.heartbeat_s)


async def _store_forever(database: Database, observer: Observer, beamline: BeamlineSettings, every_s: float) -> None:
    """Process variables into the database; while that is away, only the newest values are kept."""
    while True:
        await asyncio.sleep(every_s)
        # Between a lost connection and the first retry newer values may come: those are taken with the next turn.
        changed = observer.variables.changed()
        if changed:
            values = _columns(beamline, changed)

            async def write(connection: Connection, values: dict[str, object] = values) -> None:
                await connection.execute(query("store_pvs"), values)

            await database.transaction(write)


def _columns(beamline: BeamlineSettings, variables: list[Variable]) -> dict[str, object]:
    return {
        "facility": beamline.facility,
        "instrument": beamline.short_name,
        "names": [one.name for one in variables],
        "numbers": [one.number for one in variables],
        "texts": [one.text for one in variables],
        "statuses": [one.status for one in variables],
        "times": [one.at for one in variables],
        "units": [one.units for one in variables],
        "severities": [one.severity for one in variables],
    }
