"""What the translator tells others: in the words of the translator in use today."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

import msgspec

from neutronflow.domain.facility import RunKey
from neutronflow.domain.messages.destinations import POSTPROCESS_DATA_READY
from neutronflow.foundation.broker.message import Outgoing, queue, topic

_STATUS: Final = 0x40000000
_STARTED: Final = 0xA0300000
_FINISHED: Final = 0xA0300001
_FAILED: Final = 0xA0300002


def data_ready(run: RunKey, experiment: str, data_file: str) -> Outgoing:
    """The message with which a run's processing begins."""
    return Outgoing(
        destination=queue(POSTPROCESS_DATA_READY), body=_body(_FINISHED, **_run(run, experiment, data_file))
    )


def finished(run: RunKey, experiment: str, data_file: str) -> Outgoing:
    """To all who listen: a run is translated."""
    return _broadcast(run, "APP", _body(_FINISHED, **_run(run, experiment, data_file)))


def started(run: RunKey) -> Outgoing:
    """To all who listen: a translation has begun."""
    return _broadcast(run, "APP", _body(_STARTED, run_num=str(run.run_number), host=socket.gethostname()))


def failed(run: RunKey, experiment: str, code: int, reason: str) -> Outgoing:
    """To all who listen: a translation has failed."""
    fields = {"instrument": run.instrument, "ipts": experiment, "run_number": str(run.run_number)}
    return _broadcast(run, "APP", _body(_FAILED, **fields, code=str(code), reason=reason, host=socket.gethostname()))


def heartbeat(run: RunKey) -> Outgoing:
    """To all who listen: the translation of this run's instrument is alive."""
    return _broadcast(run, "STATUS", _body(_STATUS, status="0"))


def _run(run: RunKey, experiment: str, data_file: str) -> dict[str, str]:
    return {
        "facility": run.facility,
        "instrument": run.instrument,
        "ipts": experiment,
        "run_number": str(run.run_number),
        "data_file": data_file,
        "host": socket.gethostname(),
    }


def _body(msg_type: int, **fields: str) -> bytes:
    # All values are text, as those who read these messages today are used to.
    envelope = {
        "msg_type": str(msg_type),
        "src_id": f"STC_{os.getpid()}",
        "dest_id": "",
        "timestamp": str(int(time.time())),
    }
    # Names from a stream may hold bytes that are no UTF-8.
    readable = {name: text.encode(errors="replace").decode() for name, text in fields.items()}
    return msgspec.json.encode({**envelope, **readable})


def _broadcast(run: RunKey, category: str, body: bytes) -> Outgoing:
    return Outgoing(destination=topic(f"{run.facility}.{run.instrument}.{category}.STC"), body=body, persistent=False)
