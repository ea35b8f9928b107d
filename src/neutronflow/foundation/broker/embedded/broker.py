"""The broker: all queues and topics, and what becomes of a message that is sent to them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from neutronflow.foundation.broker.embedded.headers import Refused
from neutronflow.foundation.broker.embedded.queues import Entry, Queue, matches
from neutronflow.foundation.broker.embedded.store import Barrier, Insert, Store
from neutronflow.foundation.broker.embedded.subscriptions import Subscription
from neutronflow.foundation.ids import new_id
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

MAX_QUEUES: Final = 10_000
#: A topic's message is dropped for a subscriber that has this much unread.
MAX_UNREAD_BYTES: Final = 8 * 1024 * 1024
#: Senders are not read from while this much waits for the disk.
MAX_UNCOMMITTED_BYTES: Final = 16 * 1024 * 1024
#: What a message takes in memory beside its bytes while it waits, about.
_OVERHEAD_BYTES: Final = 1024


class Sender(Protocol):
    """A connection, as the broker sees it."""

    closed: asyncio.Event

    def confirm(self, receipt: str | None) -> None:
        """Send a receipt, if one was asked for."""

    def fail(self, detail: str, receipt: str | None) -> None:
        """Send an ERROR, and close."""

    def hold(self) -> None:
        """Read nothing more for now."""

    def go_on(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Close when what was written is sent."""


class Broker:
    """All queues, topics and clients."""

    def __init__(self, store: Store, passwords: Mapping[str, str], max_frame_bytes: int) -> None:
        self.passwords = passwords
        self.max_frame_bytes = max_frame_bytes
        self.connections: set[Sender] = set()
        self.topics: dict[Subscription, None] = {}
        self.counts = {"refused_frames": 0, "refused_logins": 0, "dropped_for_slow": 0, "failed_commits": 0}
        self._queues = {name: Queue(name, store, depth) for name, depth in store.depths.items()}
        self._store = store
        self._seq = itertools.count(store.last_seq + 1)
        #: Messages of topics are not stored, so their numbers may be used again after a restart; their ids may not.
        self._run = f"{new_id()}-"
        self._uncommitted = 0
        self._held: set[Sender] = set()

    def queue(self, name: str) -> Queue:
        """The queue of that name, made at its first use."""
        found = self._queues.get(name)
        if found is None:
            if len(self._queues) >= MAX_QUEUES:
                self._forget_idle_queues()
            found = self._queues[name] = Queue(name, self._store)
        return found

    def send_to_queue(self, sender: Sender, name: str, headers: bytes, body: bytes, receipt: str | None) -> None:
        """Keep a message; its receipt and its delivery come after the commit."""
        queue = self.queue(name)
        queue.pending += 1
        seq = next(self._seq)
        size = len(headers) + len(body) + _OVERHEAD_BYTES
        self._uncommitted += size

        def done(problem: str | None) -> None:
            queue.pending -= 1
            self._uncommitted -= size
            self._release()
            if problem is not None:
                self.counts["failed_commits"] += 1
                log.error("broker_commit_failed", queue=name, detail=problem)
                # Without the receipt's id: the message was not refused, it may be sent again when the disk has room.
                sender.fail(f"the message could not be stored: {problem}", None)
                return
            sender.confirm(receipt)
            queue.committed(Entry(seq, self._store.message_id(seq), headers, body))

        self._store.submit(Insert(seq, name, headers, body, done))
        if self._uncommitted > MAX_UNCOMMITTED_BYTES:
            sender.hold()
            self._held.add(sender)

    def send_to_topic(self, name: str, headers: bytes, body: bytes) -> None:
        """Give a message to all who subscribe to its topic now."""
        seq = next(self._seq)
        entry = Entry(seq, f"{self._run}{seq}".encode(), headers, body)
        for subscription in self.topics:
            if matches(subscription.pattern, name):
                if subscription.client.unread_bytes > MAX_UNREAD_BYTES:
                    self.counts["dropped_for_slow"] += 1
                else:
                    subscription.deliver(entry)

    def after_commit(self, done: Callable[[], None]) -> None:
        """Call back when everything that was sent so far is durable."""
        self._store.submit(Barrier(lambda _problem: done()))

    def statistics(self) -> dict[str, Any]:
        """Depth, consumers and counts of each queue, and what was refused."""
        queues = {
            queue.name: {
                "depth": queue.depth,
                "consumers": len(queue.consumers),
                "received": queue.received,
                "delivered": queue.delivered,
            }
            for queue in self._queues.values()
        }
        return {"at": time.time(), "connections": len(self.connections), "queues": queues, **self.counts}

    def statistics_json(self) -> str:
        """The statistics as JSON."""
        return json.dumps(self.statistics())

    def _forget_idle_queues(self) -> None:
        self._queues = {name: queue for name, queue in self._queues.items() if not queue.is_idle}
        if len(self._queues) >= MAX_QUEUES:
            raise Refused(f"there are {MAX_QUEUES} queues already")

    def _release(self) -> None:
        if self._held and self._uncommitted < MAX_UNCOMMITTED_BYTES // 2:
            for sender in self._held:
                sender.go_on()
            self._held.clear()
