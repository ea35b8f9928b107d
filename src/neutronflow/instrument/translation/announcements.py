"""What the translator tells others: in the words of the translator in use today."""

from __future__ import annotations

import os
import socket

from neutronflow.domain.facility import RunKey
from neutronflow.domain.messages import combus
from neutronflow.domain.messages.combus import MessageType
from neutronflow.domain.messages.destinations import POSTPROCESS_DATA_READY
from neutronflow.foundation.broker.message import Outgoing, queue


def data_ready(run: RunKey, experiment: str, data_file: str) -> Outgoing:
    """The message with which a run's processing begins."""
    fields = _run(run, experiment, data_file)
    body = combus.body(MessageType.TRANSLATION_FINISHED, f"STC_{os.getpid()}", fields)
    return Outgoing(destination=queue(POSTPROCESS_DATA_READY), body=body)


def finished(run: RunKey, experiment: str, data_file: str) -> Outgoing:
    """To all who listen: a run is translated."""
    return _tell(run, MessageType.TRANSLATION_FINISHED, _run(run, experiment, data_file))


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


def _run(run: RunKey, experiment: str, data_file: str) -> dict[str, str]:
    return {
        "facility": run.facility,
        "instrument": run.instrument,
        "ipts": experiment,
        "run_number": str(run.run_number),
        "data_file": data_file,
        "host": socket.gethostname(),
    }


def _tell(run: RunKey, message_type: MessageType, fields: combus.Fields) -> Outgoing:
    return _sender(run).broadcast("APP", message_type, fields)


def _sender(run: RunKey) -> combus.Sender:
    return combus.Sender(run.facility, run.instrument, "STC")
