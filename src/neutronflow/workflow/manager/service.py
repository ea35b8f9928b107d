"""``neutronflow manager``: the workflow manager as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from neutronflow.domain.facility import known_facilities
from neutronflow.domain.messages import destinations
from neutronflow.foundation.broker.message import Message, Outgoing, queue, topic
from neutronflow.foundation.broker.session import BrokerUnavailable, PublicationRefused, Session
from neutronflow.foundation.config import Settings
from neutronflow.foundation.service import begin, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.store.connection import Connection, Database
from neutronflow.store.deadletters import DeadLetter
from neutronflow.store.dsn import dsn
from neutronflow.store.named import query
from neutronflow.store.schema import check_schema
from neutronflow.workflow.manager.batch import Batch, Item
from neutronflow.workflow.manager.settings import ManagerSettings

log = get_logger(__name__)

_OUTBOX_AT_A_TIME = 500
_OUTBOX_TIMEOUT_S = 15.0


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Work until SIGTERM."""
    run_until_stopped(_serve(begin("manager")))
    return 0


async def _serve(settings: Settings) -> None:
    async with Session.from_settings(settings, user="manager") as session:
        await Manager(settings, session).work()


class Manager:
    """Takes messages in batches, applies each batch in one transaction, then acknowledges, then publishes what follows."""

    def __init__(self, settings: Settings, session: Session) -> None:
        self._settings = settings.section("manager", ManagerSettings)
        self._session = session
        self._batch = Batch(known_facilities(settings))
        conninfo = dsn(settings, "manager")
        self._database = Database(conninfo)
        self._outbox_database = Database(conninfo)
        self._outbox_filled = asyncio.Event()

    async def work(self) -> None:
        """Work until cancelled."""
        await self._database.transaction(check_schema)
        await self._session.connected()
        inputs = [queue(name) for name in destinations.MANAGER_INPUTS]
        subscription = await self._session.subscribe(inputs, prefetch=self._settings.batch)
        notify_ready("taking messages")
        log.info("manager_ready")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_outbox())
            tasks.create_task(self._every(self._settings.heartbeat_s, self._heartbeat))
            tasks.create_task(self._every(self._settings.prune_every_s, self._prune))
            try:
                while True:
                    await self.take(await subscription.get_batch(self._settings.batch))
            finally:
                await self._database.close()
                await self._outbox_database.close()

    async def take(self, messages: Sequence[Message]) -> None:
        """Apply a batch and acknowledge it. One message that cannot be applied does not keep back the others."""
        try:
            # On a thread: an archive that hangs delays messages, but not heartbeats.
            await self._apply(
                await asyncio.to_thread(lambda: [self._batch.understand(message) for message in messages])
            )
        except Exception as error:  # the one broad boundary: whatever a message can cause, it alone is kept back
            if len(messages) > 1:
                log.warning("batch_taken_apart", messages=len(messages), detail=str(error))
                for message in messages:
                    await self.take([message])
                return
            log.exception("message_not_applied", destination=messages[0].destination.name)
            await self._apply([_not_applied(messages[0], error)])
        await self._session.ack(messages)

    async def _apply(self, understood: Sequence[Item | DeadLetter]) -> None:
        async def write(connection: Connection) -> object:
            return await self._batch.write(connection, understood)

        tally = await self._database.transaction(write)
        self._outbox_filled.set()
        log.debug("batch_applied", tally=tally)

    async def _publish_outbox(self) -> None:
        """Publish commands with receipts, then forget them. What a dead manager left behind is published, too."""
        while True:
            try:
                found, refused = await self._outbox_database.transaction(self._publish_some)
            except BrokerUnavailable as error:
                log.warning("outbox_waits", detail=str(error))
                await asyncio.sleep(1.0)
                continue
            if refused:
                log.warning("outbox_waits", detail=str(refused[0]), refused=len(refused))
                await asyncio.sleep(1.0)
            if not found:
                self._outbox_filled.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._outbox_filled.wait(), 5.0 * random.uniform(0.5, 1.5))  # noqa: S311

    async def _publish_some(self, connection: Connection) -> tuple[int, list[PublicationRefused]]:
        """How many commands there were, and the refusals of those that have to stay."""
        cursor = await connection.execute(query("read_outbox"), {"limit": _OUTBOX_AT_A_TIME})
        rows = await cursor.fetchall()
        refused: dict[str, PublicationRefused] = {}
        if rows:
            outgoing = [
                Outgoing(destination=queue(str(name)), nf_id=str(nf_id), body=bytes(body))
                for _, name, nf_id, body in rows
            ]
            refused = await self._session.publish_all(outgoing, timeout=_OUTBOX_TIMEOUT_S)
            # The others must not be published again with it.
            published = [row[0] for row, one in zip(rows, outgoing, strict=True) if one.nf_id not in refused]
            await connection.execute(query("clear_outbox"), {"ids": published})
        return len(rows), list(refused.values())

    async def _heartbeat(self) -> None:
        body = msgspec.json.encode({"src_name": "workflowmgr", "status": "0", "pid": str(os.getpid())})
        name = topic(destinations.TOPIC_WORKFLOW_STATUS)
        await self._session.send_nowait(Outgoing(destination=name, body=body, persistent=False))

    async def _prune(self) -> None:
        async def prune(connection: Connection) -> None:
            await connection.execute(query("prune_seen"))
            await connection.execute(query("prune_changes"))

        await self._outbox_database.transaction(prune)

    async def _every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await action()
            await asyncio.sleep(seconds)


def _not_applied(message: Message, error: Exception) -> DeadLetter:
    reason = f"It could not be applied: {error}"
    return DeadLetter.of(message, "manager", reason)
