"""The broker's server: one connection a client, STOMP 1.1 and 1.2."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from typing import Final, cast

from neutronflow.foundation.broker.embedded import headers as read
from neutronflow.foundation.broker.embedded.broker import Broker
from neutronflow.foundation.broker.embedded.headers import Refused, escaped
from neutronflow.foundation.broker.embedded.queues import Entry
from neutronflow.foundation.broker.embedded.subscriptions import Subscription
from neutronflow.foundation.broker.frames import BadFrame, Frame, FrameParser
from neutronflow.foundation.broker.message import Kind
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

MAX_CONNECTIONS: Final = 1000
MAX_SUBSCRIPTIONS: Final = 1000
#: What a client may have unread before nothing more of queues is sent to it.
_HIGH_WATER_BYTES: Final = 1 << 20
_LOGIN_WITHIN_S: Final = 10.0
#: Frames of one turn of the event loop are written together, up to this much.
_GATHERED_BYTES: Final = 1 << 16
#: A CONNECT frame has no body; before the login nobody gets memory for more.
_MAX_BODY_BEFORE_LOGIN: Final = 1024
#: A client that has not taken its last words by then is cut off.
_LINGER_S: Final = 5.0
#: Headers of SEND that are between sender and broker, and do not travel on.
_NOT_FORWARDED: Final = frozenset(
    ["receipt", "content-length", "destination", "message-id", "subscription", "ack", "redelivered"]
)


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._parser = FrameParser(_MAX_BODY_BEFORE_LOGIN)
        self._subscriptions: dict[str, Subscription] = {}
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._user: str | None = None
        self._version = "1.2"
        self._closing = False
        self._heard = time.monotonic()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self.writable = True
        #: Set when the connection is gone.
        self.closed = asyncio.Event()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._broker.connections.add(self)
        if len(self._broker.connections) > MAX_CONNECTIONS:
            self.fail("there are too many connections", None)
            return
        loop = asyncio.get_running_loop()
        self._timers["login"] = loop.call_later(_LOGIN_WITHIN_S, self._too_late)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client has gone; what it held goes to others."""
        self._closing = True
        self.writable = False
        self._broker.connections.discard(self)
        self.closed.set()
        for timer in self._timers.values():
            timer.cancel()
        self._end_subscriptions()

    def pause_writing(self) -> None:
        """The client reads too slowly: it gets nothing more for now."""
        self.writable = False

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable = not self._closing
        for subscription in list(self._subscriptions.values()):
            if subscription.queue is not None:
                subscription.queue.dispatch()

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of frames."""
        self._heard = time.monotonic()
        receipt: str | None = None
        try:
            for frame in self._parser.feed(data):
                # What comes behind an ERROR or a DISCONNECT is not looked at.
                if self._closing:
                    return
                receipt = frame.headers.get("receipt")
                self._take(frame)
        except (BadFrame, Refused) as error:
            if self._closing:
                return
            self._broker.counts["refused_frames"] += 1
            log.warning("broker_refused_frame", user=self._user, detail=str(error))
            self.fail(str(error), receipt if isinstance(error, Refused) else None)

    # What queues and the broker call.

    @property
    def unread_bytes(self) -> int:
        """What was written and the client has not taken yet."""
        return self._transport.get_write_buffer_size() + self._gathered_bytes

    def hold(self) -> None:
        """Read nothing more from this client for now."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if not self._closing:
            # What it said meanwhile was not heard yet.
            self._heard = time.monotonic()
            self._transport.resume_reading()

    def send_message(self, head: bytes, entry: Entry) -> None:
        """Write a MESSAGE frame: its own head, the sender's headers, the body."""
        forwarded = entry.headers
        if self._version == "1.1" and b"\\r" in forwarded:
            forwarded = _for_version_1_1(forwarded)
        length = b"content-length:%d\n\n" % len(entry.body)
        self._write(b"".join((head, forwarded, length, entry.body, b"\0")))

    def confirm(self, receipt: str | None) -> None:
        """Send a receipt, if one was asked for."""
        if receipt is not None and not self._closing:
            self._write(Frame("RECEIPT", {"receipt-id": receipt}).to_bytes())

    def fail(self, detail: str, receipt: str | None) -> None:
        """Say what is wrong, and close the connection, as STOMP has it."""
        if self._closing:
            return
        headers = {"message": detail[:1000]}
        if receipt is not None:
            headers["receipt-id"] = receipt
        self._write(Frame("ERROR", headers).to_bytes())
        self.close()

    def close(self) -> None:
        """Close when what was written is sent; what the client held goes to others at once."""
        if self._closing:
            return
        self._closing = True
        self.writable = False
        self._end_subscriptions()
        self._flush()
        self._transport.close()
        self._timers["linger"] = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)

    # Frames.

    def _take(self, frame: Frame) -> None:
        if self._user is None:
            self._connect(frame)
            return
        headers = frame.headers
        if "transaction" in headers:
            raise Refused("this broker has no transactions")
        match frame.command:
            case "SEND":
                self._send(frame)
                return
            case "DISCONNECT":
                self._broker.after_commit(lambda: self._goodbye(headers.get("receipt")))
                return
            case "ACK" | "NACK":
                self._settle(headers, taken=frame.command == "ACK")
            case "SUBSCRIBE":
                self._subscribe(headers)
            case "UNSUBSCRIBE":
                ended = self._subscriptions.pop(read.required(headers, "id"), None)
                if ended is not None:
                    self._drop(ended)
            case _:
                raise Refused(f"this broker does not know {frame.command}")
        self._confirm_in_turn(headers.get("receipt"))

    def _confirm_in_turn(self, receipt: str | None) -> None:
        """Confirm a frame when all that came before it is durable: a receipt is one for all earlier frames, too."""
        if receipt is not None:
            self._broker.after_commit(lambda: self.confirm(receipt))

    def _connect(self, frame: Frame) -> None:
        if frame.command not in ("CONNECT", "STOMP"):
            raise Refused("the first frame has to be CONNECT")
        self._version = read.version(frame.headers)
        user, password = frame.headers.get("login", ""), frame.headers.get("passcode", "")
        wanted = self._broker.passwords.get(user)
        if not hmac.compare_digest((wanted or "").encode(), password.encode()) or not wanted:
            self._broker.counts["refused_logins"] += 1
            raise Refused(f"the login of {user[:40]!r} is not right")
        sends_s, wants_s = read.heartbeats(frame.headers)
        self._user = user
        self._parser.max_body_bytes = self._broker.max_frame_bytes
        self._timers.pop("login").cancel()
        beats = f"{wants_s * 1000:.0f},{sends_s * 1000:.0f}"
        connected = {"version": self._version, "server": "neutronflow/embedded", "heart-beat": beats}
        self._write(Frame("CONNECTED", connected).to_bytes())
        if wants_s:
            self._beat(wants_s)
        if sends_s:
            self._watch(sends_s)

    def _beat(self, interval_s: float) -> None:
        if self._closing:
            return
        if self.writable:
            self._write(b"\n")
        self._timers["beat"] = asyncio.get_running_loop().call_later(interval_s / 2, self._beat, interval_s)

    def _watch(self, interval_s: float) -> None:
        if self._closing:
            return
        silent_s = time.monotonic() - self._heard
        # A client that is held back is not read from, so nothing can be heard of it.
        if silent_s > 2.5 * interval_s and self._transport.is_reading():
            log.warning("broker_client_silent", user=self._user, seconds=round(silent_s, 1))
            self._transport.abort()
            return
        self._timers["watch"] = asyncio.get_running_loop().call_later(interval_s, self._watch, interval_s)

    def _too_late(self) -> None:
        self.fail(f"no login came within {_LOGIN_WITHIN_S:g} s", None)

    def _send(self, frame: Frame) -> None:
        destination = read.destination(frame.headers)
        lines = [f"destination:{escaped(str(destination))}\n"]
        for name, value in frame.headers.items():
            if name not in _NOT_FORWARDED:
                lines.append(f"{escaped(name)}:{escaped(value)}\n")
        headers = "".join(lines).encode()
        receipt = frame.headers.get("receipt")
        if destination.kind is Kind.QUEUE:
            self._broker.send_to_queue(self, destination.name, headers, frame.body, receipt)
        else:
            self._broker.send_to_topic(destination.name, headers, frame.body)
            self._confirm_in_turn(receipt)

    def _subscribe(self, headers: Mapping[str, str]) -> None:
        name, destination = read.required(headers, "id"), read.destination(headers)
        if "selector" in headers:
            raise Refused("this broker has no selectors")
        if name in self._subscriptions:
            raise Refused(f"there is a subscription {name[:40]!r} already")
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Refused(f"a connection may have {MAX_SUBSCRIPTIONS} subscriptions")
        queue = self._broker.queue(destination.name) if destination.kind is Kind.QUEUE else None
        subscription = Subscription(
            self, name, destination.name, queue=queue, mode=read.ack_mode(headers), prefetch=read.prefetch(headers)
        )
        self._subscriptions[name] = subscription
        if queue is None:
            self._broker.topics[subscription] = None
        else:
            queue.consumers.append(subscription)
            queue.dispatch()

    def _settle(self, headers: Mapping[str, str], *, taken: bool) -> None:
        number = read.message_number(headers)
        chosen = headers.get("subscription")
        for subscription in list(self._subscriptions.values()):
            if chosen is None or subscription.name == chosen:
                subscription.settle(number, taken=taken)

    def _end_subscriptions(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            self._drop(subscription)

    def _drop(self, subscription: Subscription) -> None:
        subscription.end()
        self._broker.topics.pop(subscription, None)

    def _goodbye(self, receipt: str | None) -> None:
        self.confirm(receipt)
        self.close()

    def _write(self, data: bytes) -> None:
        """Write with what else this turn of the event loop brings: a system call for each frame would cost more than it."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes > _GATHERED_BYTES:
            self._flush()

    def _flush(self) -> None:
        data, self._gathered, self._gathered_bytes = b"".join(self._gathered), [], 0
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _for_version_1_1(headers: bytes) -> bytes:
    """STOMP 1.1 has no escape for a carriage return: it stands as it is."""
    parts = headers.split(b"\\\\")
    return b"\\\\".join(part.replace(b"\\r", b"\r") for part in parts)
