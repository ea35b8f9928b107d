"""``neutronflow listener``: the DASMON listener as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from neutronflow.domain.facility import PROBE, known_facilities
from neutronflow.domain.messages import combus, destinations
from neutronflow.foundation.broker.message import Message, Outgoing, queue, topic
from neutronflow.foundation.broker.session import Session, Subscription
from neutronflow.foundation.config import Settings
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.service import begin, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.store.connection import Connection, Database
from neutronflow.store.deadletters import DeadLetter
from neutronflow.store.dsn import dsn
from neutronflow.store.schema import check_schema
from neutronflow.workflow.listener.beamline import BeamlineListener, topics
from neutronflow.workflow.listener.complaints import Complaints
from neutronflow.workflow.listener.heartbeats import Heartbeat, Presence, read_heartbeat, read_status, store_heartbeats
from neutronflow.workflow.listener.reports import Report, store, understand
from neutronflow.workflow.listener.settings import ListenerSettings

log = get_logger(__name__)

_OWN_HEARTBEAT_S = 15.0
#: Heartbeats that come close together are stored together.
_GATHER_S = 0.1
_TRY_AGAIN_S = 0.3
#: Heartbeats of the services that belong to no instrument.
_OF_ALL = frozenset([destinations.TOPIC_WORKFLOW_STATUS, destinations.TOPIC_AGENT_STATUS, destinations.TOPIC_ACK])

Entry: TypeAlias = tuple[Message, Report | DeadLetter]


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Listen until SIGTERM."""
    run_until_stopped(_serve(begin("listener")))
    return 0


async def _serve(settings: Settings) -> None:
    async with Session.from_settings(settings, user="listener") as session:
        await Listener(settings, session).work()


class Listener:
    """Stores heartbeats, job reports and what beamlines tell, and asks now and then who is there.

    Topics are read whether or not the database answers (only the newest heartbeat of a process counts); job reports are
    acknowledged once they are committed.
    """

    def __init__(self, settings: Settings, session: Session) -> None:
        self._settings = settings.section("listener", ListenerSettings)
        self._session = session
        self._facilities = known_facilities(settings)
        conninfo = dsn(settings, "listener")
        self._database = Database(conninfo)
        self._report_database = Database(conninfo)
        self._presence = Presence(self._settings.announce_every_s)
        self._heard = asyncio.Event()
        self._complaints = Complaints()
        self._beamlines = BeamlineListener(self._settings, session, self._facilities, conninfo, self._complaints)

    async def work(self) -> None:
        """Listen until cancelled."""
        await self._database.transaction(check_schema)
        await self._session.connected()
        of_beamlines = topics(self._facilities, combus.STATUSES)
        heartbeats = await self._session.subscribe([*(topic(name) for name in sorted(_OF_ALL)), *of_beamlines])
        await self._beamlines.subscribe()
        reports = await self._session.subscribe([queue(destinations.JOB_REPORT)], prefetch=4 * self._settings.batch)
        notify_ready("listening")
        log.info("listener_ready")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(heartbeats))
                tasks.create_task(self._store_heartbeats())
                tasks.create_task(self._beamlines.work())
                tasks.create_task(self._take_reports(reports))
                tasks.create_task(self._ping())
                tasks.create_task(self._beat())
        finally:
            await self._database.close()
            await self._report_database.close()

    async def _hear(self, heartbeats: Subscription) -> None:
        while True:
            for message in await heartbeats.get_batch(500):
                try:
                    heartbeat = self._read(message)
                except NeutronflowError as error:
                    self._complaints.about(message, str(error))
                    continue
                if heartbeat is not None and not self._note(heartbeat):
                    self._complaints.about(message, "too many processes tell of themselves")
            # A flood of them must not keep the others from their turn.
            await asyncio.sleep(0)

    def _read(self, message: Message) -> Heartbeat | None:
        """The heartbeat; None of one that nobody is to see. Raises ``NeutronflowError``."""
        if message.destination.name in _OF_ALL:
            return read_heartbeat(message.body)
        sender = combus.Sender.of_topic(message.destination.name, self._facilities)
        return read_status(message.body, sender) if sender.instrument != PROBE else None

    def _note(self, heartbeat: Heartbeat) -> bool:
        self._heard.set()
        return self._presence.note(heartbeat)

    async def _store_heartbeats(self) -> None:
        while True:
            await self._heard.wait()
            await asyncio.sleep(_GATHER_S)
            self._heard.clear()
            taken = self._presence.take()
            tell = self._presence.worth_telling(taken)

            async def write(connection: Connection, taken: list[Heartbeat] = taken, tell: bool = tell) -> None:
                await store_heartbeats(connection, taken, tell=tell)

            await self._database.transaction(write)

    async def _take_reports(self, subscription: Subscription) -> None:
        """Store reports as they come; those whose run is not known yet are tried again, until their time is up."""
        waiting: list[Report] = []
        while True:
            messages: list[Message] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TRY_AGAIN_S if waiting else None):
                    messages = await subscription.get_batch(self._settings.batch)
            tried_again = [(report.message, self._patient(report)) for report in waiting]
            waiting = await self._take([*tried_again, *((one, understand(one, self._facilities)) for one in messages)])

    def _patient(self, report: Report) -> Report | DeadLetter:
        if time.monotonic() - report.came < self._settings.unknown_run_s:
            return report
        return DeadLetter.of(report.message, "listener", f"The run {report.run} of this job report is not known.")

    async def _take(self, entries: Sequence[Entry]) -> list[Report]:
        """Store and acknowledge; what has to wait is given back. One that cannot be stored does not keep back others."""
        if not entries:
            return []
        try:
            waiting = await self._store([one for _, one in entries])
        except Exception as error:  # the one broad boundary: whatever a report can cause, it alone is kept back
            if len(entries) > 1:
                log.warning("batch_taken_apart", messages=len(entries), detail=str(error))
                return [report for entry in entries for report in await self._take([entry])]
            log.exception("report_not_stored")
            reason = f"It could not be stored: {error}"
            waiting = await self._store([DeadLetter.of(entries[0][0], "listener", reason)])
        waits = {id(report.message) for report in waiting}
        await self._session.ack([message for message, _ in entries if id(message) not in waits])
        return waiting

    async def _store(self, understood: Sequence[Report | DeadLetter]) -> list[Report]:
        async def write(connection: Connection) -> list[Report]:
            return await store(connection, understood)

        return await self._report_database.transaction(write)

    async def _ping(self) -> None:
        while True:
            body = {"reply_to": f"/topic/{destinations.TOPIC_ACK}", "request_time": time.time()}
            ping = Outgoing(
                destination=topic(destinations.TOPIC_PING), body=msgspec.json.encode(body), persistent=False
            )
            await self._session.send_nowait(ping)
            await asyncio.sleep(self._settings.ping_every_s)

    async def _beat(self) -> None:
        """The listener's own heartbeat needs no broker."""
        while True:
            self._note(Heartbeat("dasmon_listener", str(os.getpid()), "listener", "0"))
            await asyncio.sleep(_OWN_HEARTBEAT_S)
