"""What beamlines tell of values, alarms and runs, from the topics into the database.

Topics are not delivered again, so they are read whether or not the database answers: of values and alarms only the newest
count, and messages about runs wait in the subscription, whose room values cannot take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from neutronflow.domain.facility import Facilities
from neutronflow.domain.messages import combus
from neutronflow.foundation.broker.message import Destination, Message, topic
from neutronflow.foundation.broker.session import Session, Subscription
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.store.connection import Connection, Database
from neutronflow.store.named import query
from neutronflow.workflow.listener import acquisition
from neutronflow.workflow.listener.acquisition import RunNews
from neutronflow.workflow.listener.complaints import Complaints
from neutronflow.workflow.listener.settings import ListenerSettings
from neutronflow.workflow.listener.signals import Signal, Signals, read_signal, store_signals
from neutronflow.workflow.listener.values import Place, Value, Values, place_columns, read_values, store_values

log = get_logger(__name__)

#: Values that come close together are stored together.
_GATHER_S = 0.25
_MESSAGES_AT_A_TIME = 500
_RUNS_AT_A_TIME = 200
_TELL_EVERY_S = 1.0


def topics(facilities: Facilities, endings: Iterable[str]) -> list[Destination]:
    """The topics of all instruments of all facilities that end so."""
    return [topic(f"{facility}.*.{ending}") for facility in facilities.names for ending in endings]


class BeamlineListener:
    """Stores values, alarms and the news of runs."""

    def __init__(
        self,
        settings: ListenerSettings,
        session: Session,
        facilities: Facilities,
        conninfo: str,
        complaints: Complaints,
    ) -> None:
        self._settings = settings
        self._session = session
        self._facilities = facilities
        self._value_database = Database(conninfo)
        self._run_database = Database(conninfo)
        self._values = Values()
        self._signals = Signals()
        self._heard = asyncio.Event()
        self._complaints = complaints
        self._told: list[Subscription] = []

    async def subscribe(self) -> None:
        """Subscribe; nothing that is sent from then on is missed."""
        for ending in (combus.VALUES, combus.SIGNALS, combus.RUNS):
            self._told.append(await self._session.subscribe(topics(self._facilities, [ending])))

    async def work(self) -> None:
        """Store what is told, until cancelled."""
        values, signals, runs = self._told
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(values, self._note_values))
                tasks.create_task(self._hear(signals, self._note_signal))
                tasks.create_task(self._store())
                tasks.create_task(self._take_runs(runs))
                tasks.create_task(self._every(_TELL_EVERY_S, self._tell_waiting))
                tasks.create_task(self._every(self._settings.purge_every_s, self._purge))
        finally:
            await self._value_database.close()
            await self._run_database.close()

    async def _hear(self, told: Subscription, note: Callable[[Message], None]) -> None:
        while True:
            for message in await told.get_batch(_MESSAGES_AT_A_TIME):
                try:
                    note(message)
                except NeutronflowError as error:
                    self._complaints.about(message, str(error))
            # A flood of them must not keep the others from their turn.
            await asyncio.sleep(0)

    def _place(self, message: Message) -> Place:
        sender = combus.Sender.of_topic(message.destination.name, self._facilities)
        return Place(sender.facility, sender.instrument)

    def _note_values(self, message: Message) -> None:
        values, at = read_values(message.body, time.time())
        if not self._values.note(self._place(message), values, at):
            self._complaints.about(message, "there are too many keys or instruments")
        self._heard.set()

    def _note_signal(self, message: Message) -> None:
        if not self._signals.note(read_signal(message.body, self._place(message), time.time())):
            self._complaints.about(message, "there are too many signals")
        self._heard.set()

    async def _store(self) -> None:
        while True:
            await self._heard.wait()
            await asyncio.sleep(_GATHER_S)
            self._heard.clear()
            values, signals = self._values.take(), self._signals.take()
            if not values and not signals:
                continue

            async def write(
                connection: Connection, values: Sequence[Value] = values, signals: Sequence[Signal] = signals
            ) -> None:
                if values:
                    await store_values(connection, values)
                if signals:
                    await store_signals(connection, signals)
                places = {one.place for one in values} | {one.place for one in signals}
                await connection.execute(query("tell_instruments"), place_columns(sorted(places)))

            try:
                await self._value_database.transaction(write)
            except Exception:  # the one broad boundary: newer values come, and they are stored
                log.exception("values_not_stored", values=len(values), signals=len(signals))

    async def _take_runs(self, told: Subscription) -> None:
        while True:
            news = []
            for message in await told.get_batch(_RUNS_AT_A_TIME):
                try:
                    news.append(acquisition.understand(message, self._facilities))
                except NeutronflowError as error:
                    self._complaints.about(message, str(error))
            await self._store_runs(news)

    async def _store_runs(self, news: Sequence[RunNews]) -> None:
        """One that cannot be stored does not keep back others."""

        async def write(connection: Connection) -> None:
            await acquisition.store(connection, news)

        if not news:
            return
        try:
            await self._run_database.transaction(write)
        except Exception as error:  # the one broad boundary: whatever a message can cause, it alone is dropped
            if len(news) > 1:
                log.warning("batch_taken_apart", messages=len(news), detail=str(error))
                for one in news:
                    await self._store_runs([one])
                return
            log.exception("run_news_not_stored", run=str(news[0].run))
            self._complaints.about(news[0].message, f"it could not be stored: {error}")

    async def _tell_waiting(self) -> None:
        async def tell(connection: Connection) -> None:
            await connection.execute(query("tell_waiting_instruments"))

        await self._value_database.transaction(tell)

    async def _purge(self) -> None:
        seconds = {"seconds": self._settings.history_hours * 3600.0}

        async def purge(connection: Connection) -> None:
            await connection.execute(query("prune_pv_history"), seconds)
            await connection.execute(query("prune_status_history"), seconds)

        await self._run_database.transaction(purge)

    async def _every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await action()
            await asyncio.sleep(seconds)
