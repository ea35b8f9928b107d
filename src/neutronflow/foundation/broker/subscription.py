"""What was delivered to one of our sessions, and not yet taken by its caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from neutronflow.foundation.broker.message import Destination, Kind, Message
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

#: What of topics may wait for a caller that is too slow; queues are bounded by the prefetch.
MAX_WAITING_MESSAGES: Final = 50_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024


class Subscription:
    """A subscription of a session, over all of its connections."""

    def __init__(self, number: int, destinations: Sequence[Destination], prefetch: int) -> None:
        self.number = number
        self.destinations = destinations
        self.prefetch = prefetch
        #: Messages of topics that were dropped because too many waited.
        self.dropped = 0
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    async def get(self) -> Message:
        """The next message."""
        return (await self.get_batch(1))[0]

    async def get_batch(self, max_messages: int) -> list[Message]:
        """At least one message, and at most ``max_messages`` of those that are there."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        batch = [self._messages.popleft() for _ in range(min(max_messages, len(self._messages)))]
        self._bytes -= sum(len(message.body) for message in batch)
        return batch

    def put(self, message: Message) -> None:
        """A message was delivered; for the session."""
        is_full = len(self._messages) >= MAX_WAITING_MESSAGES or self._bytes >= MAX_WAITING_BYTES
        if is_full and message.destination.kind is Kind.TOPIC:
            if self.dropped % MAX_WAITING_MESSAGES == 0:
                log.warning("messages_dropped", destination=str(message.destination), dropped=self.dropped + 1)
            self.dropped += 1
            return
        self._messages.append(message)
        self._bytes += len(message.body)
        self._arrived.set()

    def forget(self) -> None:
        """The connection was lost: what was not taken from queues is delivered again; for the session."""
        # A topic's messages come only once.
        self._messages = deque(one for one in self._messages if one.destination.kind is Kind.TOPIC)
        self._bytes = sum(len(one.body) for one in self._messages)
