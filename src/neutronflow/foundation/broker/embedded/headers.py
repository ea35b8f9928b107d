"""What the broker reads out of the headers of clients' frames, and refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from neutronflow.foundation.broker.message import Destination, Kind

MAX_DESTINATION: Final = 255
ACK_MODES: Final = ("auto", "client", "client-individual")
_DEFAULT_PREFETCH: Final = 100
#: A client that wants heart-beats less often than this gets them this often; more often, as often as this.
_BEATS_S: Final = (0.1, 600.0)


class Refused(Exception):
    """What the client asked for cannot be; internal, becomes an ERROR frame."""


def required(headers: Mapping[str, str], name: str) -> str:
    """A header that has to be there."""
    value = headers.get(name)
    if not value:
        raise Refused(f"the header '{name}' is missing")
    return value


def escaped(text: str) -> str:
    """A header's name or value as it is written."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace(":", "\\c")


def destination(headers: Mapping[str, str]) -> Destination:
    """Where a message goes or comes from; a bare name is a queue."""
    text = required(headers, "destination")
    if len(text) > MAX_DESTINATION:
        raise Refused(f"the destination is longer than {MAX_DESTINATION} characters")
    for kind in Kind:
        prefix = f"/{kind}/"
        if text.startswith(prefix):
            if text == prefix:
                raise Refused(f"the destination {text!r} has no name")
            return Destination(kind, text[len(prefix) :])
    if text.startswith("/"):
        raise Refused(f"the destination {text[:40]!r} is neither a /queue/ nor a /topic/")
    return Destination(Kind.QUEUE, text)


def ack_mode(headers: Mapping[str, str]) -> str:
    """How a subscription acknowledges."""
    mode = headers.get("ack", "auto")
    if mode not in ACK_MODES:
        raise Refused(f"there is no ack mode {mode[:20]!r}")
    return mode


def prefetch(headers: Mapping[str, str]) -> int:
    """How many messages a subscription may hold unacknowledged, by the header of RabbitMQ or of ActiveMQ."""
    text = headers.get("prefetch-count") or headers.get("activemq.prefetchSize") or str(_DEFAULT_PREFETCH)
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise Refused(f"the prefetch {text[:20]!r} is no number")
    return max(1, int(text))


def message_number(headers: Mapping[str, str]) -> int:
    """Which message is acknowledged: STOMP 1.2 names the MESSAGE's ack header, 1.1 its message-id."""
    text = headers.get("id") or required(headers, "message-id")
    digits = text.rpartition("-")[2]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise Refused(f"there is no message {text[:40]!r} to acknowledge")
    return int(digits)


def version(headers: Mapping[str, str]) -> str:
    """The newest version that both sides speak."""
    offered = [one.strip() for one in headers.get("accept-version", "1.0").split(",")]
    for one in ("1.2", "1.1"):
        if one in offered:
            return one
    raise Refused("this broker speaks STOMP 1.1 and 1.2")


def heartbeats(headers: Mapping[str, str]) -> tuple[float, float]:
    """How often the client will send and wants to hear, in seconds; 0 for not at all."""
    sends, comma, wants = headers.get("heart-beat", "0,0").partition(",")
    if not comma:
        raise Refused("the heart-beat header is not two numbers")
    return _seconds(sends.strip()), _seconds(wants.strip())


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Refused("the heart-beat header is not two numbers")
    least, most = _BEATS_S
    return min(max(int(text) / 1000, least), most) if int(text) else 0.0
