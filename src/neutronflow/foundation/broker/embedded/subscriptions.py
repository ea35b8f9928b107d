"""Subscriptions: what was delivered to a client and is not acknowledged yet."""

from __future__ import annotations

import contextlib
from typing import Final, Protocol

from neutronflow.foundation.broker.embedded.headers import escaped
from neutronflow.foundation.broker.embedded.queues import Entry, Queue

#: A subscription gets nothing more while it holds so much unacknowledged, whatever its prefetch is.
MAX_HELD_BYTES: Final = 64 * 1024 * 1024


class Peer(Protocol):
    """A connection, as its subscriptions see it."""

    writable: bool

    @property
    def unread_bytes(self) -> int:
        """What was written and the client has not taken yet."""

    def send_message(self, head: bytes, entry: Entry) -> None:
        """Write a MESSAGE frame."""


class Subscription:
    """One client's subscription to a queue (``queue``), or to the topics that ``pattern`` covers."""

    def __init__(self, client: Peer, name: str, pattern: str, *, queue: Queue | None, mode: str, prefetch: int) -> None:
        self.client = client
        self.name = name
        self.pattern = pattern
        self.queue = queue
        # Nothing of a topic is kept, so there is nothing to acknowledge.
        self.mode = mode if queue is not None else "auto"
        self.prefetch = prefetch
        #: Delivered and not acknowledged, in order of delivery.
        self.unacknowledged: dict[int, Entry] = {}
        self._held_bytes = 0
        self._head = f"MESSAGE\nsubscription:{escaped(name)}\nmessage-id:".encode()

    def has_credit(self) -> bool:
        """Whether one more message may be sent to it now."""
        holds_less = len(self.unacknowledged) < self.prefetch and self._held_bytes < MAX_HELD_BYTES
        return self.client.writable and (self.mode == "auto" or holds_less)

    def deliver(self, entry: Entry) -> None:
        """Send a message."""
        head = self._head + entry.message_id
        if self.mode != "auto":
            self.unacknowledged[entry.seq] = entry
            self._held_bytes += entry.size
            head += b"\nack:%d" % entry.seq
        head += b"\nredelivered:true\n" if entry.redelivered else b"\n"
        self.client.send_message(head, entry)
        if self.mode == "auto" and self.queue is not None:
            self.queue.acknowledged(entry)

    def settle(self, seq: int, *, taken: bool) -> None:
        """Acknowledge (``taken``) or give back a message; in mode ``client`` all before it, too."""
        if seq not in self.unacknowledged or self.queue is None:
            return
        chosen = [seq]
        if self.mode == "client":
            delivered = list(self.unacknowledged)
            chosen = delivered[: delivered.index(seq) + 1]
        entries = [self.unacknowledged.pop(one) for one in chosen]
        self._held_bytes -= sum(entry.size for entry in entries)
        if taken:
            for entry in entries:
                self.queue.acknowledged(entry)
            self.queue.dispatch()
        else:
            self.queue.take_back(entries)

    def end(self) -> None:
        """The subscription is over: what it has not acknowledged goes to others."""
        if self.queue is None:
            return
        with contextlib.suppress(ValueError):
            self.queue.consumers.remove(self)
        entries = list(self.unacknowledged.values())
        self.unacknowledged.clear()
        self.queue.take_back(entries)
