"""What the translator tells others: in the words of the translator in use today."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from neutronflow.domain.facility import RunKey
from neutronflow.domain.messages import combus
from neutronflow.domain.messages.combus import MessageType
from neutronflow.domain.messages.destinations import POSTPROCESS_DATA_READY
from neutronflow.foundation.broker.message import Outgoing, queue


@dataclass(frozen=True, slots=True)
class File:
    """A run's file that is ready in the archive."""

    run: RunKey
    experiment: str
    path: str
    simulated: bool = False

    def data_ready(self) -> Outgoing:
        """The message with which a run's processing begins."""
        body = combus.body(MessageType.TRANSLATION_FINISHED, f"STC_{os.getpid()}", self._fields())
        return Outgoing(destination=queue(POSTPROCESS_DATA_READY), body=body)

    def finished(self) -> Outgoing:
        """To all who listen: a run is translated."""
        return _tell(self.run, MessageType.TRANSLATION_FINISHED, self._fields())

    def _fields(self) -> dict[str, str]:
        fields = {
            "facility": self.run.facility,
            "instrument": self.run.instrument,
            "ipts": self.experiment,
            "run_number": str(self.run.run_number),
            "data_file": self.path,
            "host": socket.gethostname(),
        }
        return fields | ({combus.SIMULATED: "true"} if self.simulated else {})


def started(run: RunKey) -> Outgoing:
    """To all who listen: a translation has begun."""
    fields = {"run_num": str(run.run_number), "host": socket.gethostname()}
    return _tell(run, MessageType.TRANSLATION_STARTED, fields)


def failed(run: RunKey, experiment: str, code: int, reason: str) -> Outgoing:
    """To all who listen: a translation has failed."""
    fields = {"instrument": run.instrument, "ipts": experiment, "run_number": str(run.run_number)}
    told = {**fields, "code": str(code), "reason": reason, "host": socket.gethostname()}
    return _tell(run, MessageType.TRANSLATION_FAILED, told)


def heartbeat(run: RunKey) -> Outgoing:
    """To all who listen: the translation of this run's instrument is alive."""
    return _sender(run).heartbeat()


def _tell(run: RunKey, message_type: MessageType, fields: combus.Fields) -> Outgoing:
    return _sender(run).broadcast("APP", message_type, fields)


def _sender(run: RunKey) -> combus.Sender:
    return combus.Sender(run.facility, run.instrument, "STC")
