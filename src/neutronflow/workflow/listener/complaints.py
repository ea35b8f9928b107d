"""Messages that are dropped: counted, and logged now and then."""

from __future__ import annotations

import time

from neutronflow.foundation.broker.message import Message
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

#: Of messages that are dropped, one is logged in this time, with the number of those that were not.
_EVERY_S = 10.0


class Complaints:
    """Topic messages are not kept: others got them, too."""

    def __init__(self) -> None:
        self.dropped = 0
        self._logged = -_EVERY_S

    def about(self, message: Message, reason: str) -> None:
        """This message is dropped, or a part of it."""
        self.dropped += 1
        now = time.monotonic()
        if now - self._logged >= _EVERY_S:
            self._logged = now
            beginning = message.body[:200].decode(errors="replace")
            log.warning(
                "message_dropped",
                destination=message.destination.name,
                reason=reason,
                body=beginning,
                dropped=self.dropped,
            )
