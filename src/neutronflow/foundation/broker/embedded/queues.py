"""Queues and topics in memory: who gets what, and what waits.

A queue keeps a window of its messages in memory; what lies beyond stays on disk until the window has room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from neutronflow.foundation.broker.embedded.store import Delete, Load, Store

_RELOAD_AFTER_S: Final = 1.0
#: What a message takes in memory beside its bytes, about.
_OVERHEAD_BYTES: Final = 512
WINDOW_MESSAGES: Final = 1000
WINDOW_BYTES: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class Entry:
    """One message of a queue, in memory."""

    seq: int
    #: Unique over restarts, and the same at every delivery.
    message_id: bytes
    headers: bytes
    body: bytes
    redelivered: bool = False

    @property
    def size(self) -> int:
        """What it takes in memory, in bytes, about."""
        return len(self.headers) + len(self.body) + _OVERHEAD_BYTES


class Consumer(Protocol):
    """A subscription to a queue, as the queue sees it."""

    def has_credit(self) -> bool:
        """Whether it can take one more message now."""

    def deliver(self, entry: Entry) -> None:
        """Send it one message, which becomes its own until it is acknowledged."""


class Queue:
    """One queue: ready messages in order, and its consumers in turn."""

    def __init__(self, name: str, store: Store, depth: int = 0) -> None:
        self.name = name
        #: Messages that are committed and not acknowledged.
        self.depth = depth
        #: Messages that wait for the disk.
        self.pending = 0
        self.received = 0
        self.delivered = 0
        self.consumers: deque[Consumer] = deque()
        self._store = store
        self._ready: deque[Entry] = deque()
        self._bytes = 0
        #: Whether there may be messages on disk beyond the window; they all have a higher seq than ``_last``.
        self._spilled = depth > 0
        self._last = 0
        self._loading = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost when it is forgotten."""
        return not (self.depth or self.pending or self.consumers)

    def committed(self, entry: Entry) -> None:
        """A new message is durable."""
        self.depth += 1
        self.received += 1
        if self._spilled or len(self._ready) >= WINDOW_MESSAGES or self._bytes >= WINDOW_BYTES:
            self._spilled = True
        else:
            self._append(entry)
        self.dispatch()

    def acknowledged(self, entry: Entry) -> None:
        """A consumer has taken the message for good."""
        self.depth -= 1
        self._store.submit(Delete(entry.seq))

    def take_back(self, entries: list[Entry]) -> None:
        """Messages of a consumer that is gone: they go to the head, in their order."""
        for entry in sorted(entries, key=lambda one: one.seq, reverse=True):
            entry.redelivered = True
            self._ready.appendleft(entry)
            self._bytes += len(entry.body)
        # Taken back from several consumers, the head may be out of order; it is short (bounded by their prefetch).
        self._ready = deque(sorted(self._ready, key=lambda one: one.seq))
        self.dispatch()

    def dispatch(self) -> None:
        """Give ready messages to consumers with credit, in turn."""
        refused = 0
        while self._ready and refused < len(self.consumers):
            consumer = self.consumers[0]
            self.consumers.rotate(-1)
            if not consumer.has_credit():
                refused += 1
                continue
            refused = 0
            entry = self._ready.popleft()
            self._bytes -= len(entry.body)
            self.delivered += 1
            consumer.deliver(entry)
        self._refill()

    def _append(self, entry: Entry) -> None:
        self._ready.append(entry)
        self._bytes += len(entry.body)
        self._last = max(self._last, entry.seq)

    def _refill(self) -> None:
        if self._spilled and not self._loading and len(self._ready) < WINDOW_MESSAGES // 2 and self.consumers:
            self._loading = True
            self._store.submit(Load(self.name, self._last, WINDOW_MESSAGES, WINDOW_BYTES, self._loaded))

    def _loaded(self, rows: list[tuple[int, bytes, bytes]], more: bool) -> None:
        self._loading = False
        self._spilled = more
        for seq, headers, body in rows:
            self._append(Entry(seq, self._store.message_id(seq), headers, body))
        if rows:
            self.dispatch()
        elif more:
            # The disk could not be read.
            asyncio.get_running_loop().call_later(_RELOAD_AFTER_S, self._refill)


def matches(pattern: str, name: str) -> bool:
    """Whether a topic subscription covers a topic: ``*`` is one level, a trailing ``>`` or ``#`` any number."""
    wanted, levels = pattern.split("."), name.split(".")
    if wanted[-1] in (">", "#"):
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(one in ("*", level) for one, level in zip(wanted, levels, strict=True))
