"""What the stream service tells all who listen: that it is alive, and what happens to runs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.messages.combus import GAP, SIMULATED, MessageType, Sender
from neutronflow.foundation.broker.message import Outgoing
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.stream.spool import Container

log = get_logger(__name__)

#: So much is kept for a broker that is away; of more, the oldest is never told.
_MOST_UNTOLD: Final = 1000


class Announcer:
    """Sends APP.SMS and STATUS.SMS. What happens to runs is told in order, and later where the broker is away just now."""

    def __init__(self, session: Session, beamline: BeamlineSettings) -> None:
        self._session = session
        self._beamline = beamline
        self._sender = Sender(beamline.facility, beamline.short_name, "SMS")
        #: Experiment of each run, by its number.
        self.experiments: dict[int, str] = {}
        self._untold: deque[Outgoing] = deque(maxlen=_MOST_UNTOLD)
        self._news = asyncio.Event()

    def run(self, container: Container, reason: str) -> None:
        """Something has happened to a run."""
        fields = {
            "facility": self._beamline.facility,
            "instrument": self._beamline.beamline_id,
            "start_nsec": "0",
            "start_sec": str(container.start + EPICS_EPOCH_UNIX),
            "run_number": str(container.run),
            "ipts": self.experiments.get(container.run, ""),
            "reason": reason,
        }
        if self._beamline.simulated:
            fields[SIMULATED] = "true"
        self._untold.append(self._sender.broadcast("APP", MessageType.SMS_RUN_STATUS, fields))
        self._news.set()

    async def tell_forever(self) -> None:
        """Publish what there is to tell, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._untold:
                message = self._untold.popleft()
                for refusal in (await self._session.publish_all([message])).values():
                    log.warning("message_refused", detail=str(refusal))

    def gap(self, container: Container, since_unix: float, until_unix: float, why: str) -> str:
        """Data is missing in a run; the sentence that says so."""
        sentence = (
            f"no data from {_clock(since_unix)} to {_clock(until_unix)} UTC ({until_unix - since_unix:.1f} s): {why}"
        )
        self.run(container, f"{GAP} {sentence}")
        return sentence

    async def alive(self) -> None:
        """A heartbeat."""
        await self._session.send_nowait(self._sender.heartbeat())


def _clock(unix: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(unix)) + f".{int(unix * 10) % 10}"
