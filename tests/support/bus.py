"""Messages of beamlines: recorded ones of the real programs, and ours."""

from __future__ import annotations

import re
from pathlib import Path

from neutronflow.domain.messages.combus import Fields, MessageType, Sender
from neutronflow.foundation.broker.message import Outgoing, topic

_DATA = Path(__file__).parents[1] / "data" / "bus"


def recorded(name: str) -> list[Outgoing]:
    """The messages on topics of a recorded file, in their order."""
    found = re.findall(r"^topic (\S+)\n(\{.*?^\})", (_DATA / name).read_text(), re.MULTILINE | re.DOTALL)
    return [Outgoing(destination=topic(where), body=body.encode(), persistent=False) for where, body in found]


def sms(run_number: object, reason: object, instrument: str = "HYS", **more: str) -> Outgoing:
    """What the stream service says of a run."""
    fields: dict[str, object] = {"run_number": str(run_number), "ipts": "IPTS-1", "reason": reason, **more}
    told: Fields = {"facility": "SNS", "instrument": "BL14B", **fields}  # type: ignore[dict-item]
    return Sender("SNS", instrument, "SMS").broadcast("APP", MessageType.SMS_RUN_STATUS, told)


def dasmon(instrument: str, **values: str | Fields) -> Outgoing:
    """Values that a dasmon tells."""
    return Sender("SNS", instrument, "DASMON").broadcast("APP", MessageType.DASMON_BEAM_METRICS, values)


def signal(instrument: str, name: str, level: str | None = None, message: str = "") -> Outgoing:
    """An alarm that is asserted, or (without a level) retracted."""
    sender = Sender("SNS", instrument, "DASMON")
    if level is None:
        return sender.broadcast("SIGNAL", MessageType.SIGNAL_RETRACTED, {"sig_name": name})
    told = {"sig_name": name, "sig_source": "DASMON", "sig_message": message, "sig_level": level}
    return sender.broadcast("SIGNAL", MessageType.SIGNAL_ASSERTED, told)
