"""What the stream service tells all who listen: that it is alive, and what happens to runs."""

from __future__ import annotations

import time

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.messages.combus import GAP, SIMULATED, MessageType, Sender
from neutronflow.foundation.broker.session import Session
from neutronflow.instrument.stream.spool import Container


class Announcer:
    """Sends APP.SMS and STATUS.SMS. Topics keep nothing, so what the broker is not there for is not told."""

    def __init__(self, session: Session, beamline: BeamlineSettings) -> None:
        self._session = session
        self._beamline = beamline
        self._sender = Sender(beamline.facility, beamline.short_name, "SMS")
        #: Experiment of each run, by its number.
        self.experiments: dict[int, str] = {}

    async def run(self, container: Container, reason: str) -> None:
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
        await self._session.send_nowait(self._sender.broadcast("APP", MessageType.SMS_RUN_STATUS, fields))

    async def gap(self, container: Container, since_unix: float, until_unix: float, why: str) -> str:
        """Data is missing in a run; the sentence that says so."""
        sentence = (
            f"no data from {_clock(since_unix)} to {_clock(until_unix)} UTC ({until_unix - since_unix:.1f} s): {why}"
        )
        await self.run(container, f"{GAP} {sentence}")
        return sentence

    async def alive(self) -> None:
        """A heartbeat."""
        await self._session.send_nowait(self._sender.heartbeat())


def _clock(unix: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(unix)) + f".{int(unix * 10) % 10}"
