"""The broker's server: one connection a client, STOMP 1.1 and 1.2."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from neutronflow.foundation.broker.embedded.queues import Entry, Queue, matches
from neutronflow.foundation.broker.embedded.store import Barrier, Insert, Store
from neutronflow.foundation.broker.frames import BadFrame, Frame, FrameParser
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

MAX_CONNECTIONS = 1000
#: A topic's message is dropped for a subscriber that has this much unread.
MAX_UNREAD_BYTES = 8 * 1024 * 1024
#: Senders are not read from while this much waits for the disk.
MAX_UNCOMMITTED_BYTES = 64 * 1024 * 1024
_LOGIN_WITHIN_S = 10.0
#: Headers of SEND that are between sender and broker, and do not travel on.
_NOT_FORWARDED = frozenset(
    ["receipt", "transaction", "content-length", "destination", "message-id", "subscription", "ack"]
)


class _Refused(Exception):
    """What the client asked for cannot be; internal, becomes an ERROR frame."""


class Subscription:
    """One client's subscription to a queue or to topics."""

    def __init__(self, client: Client, headers: Mapping[str, str], queue: Queue | None) -> None:
        self.client = client
        self.name = _required(headers, "id")
        self.queue = queue
        self.pattern = _bare(_required(headers, "destination"))[1]
        self.mode = headers.get("ack", "auto")
        if self.mode not in ("auto", "client", "client-individual"):
            raise _Refused(f"there is no ack mode {self.mode[:20]!r}")
        self.prefetch = _prefetch(headers)
        #: Delivered and not acknowledged, in order of delivery.
        self.unacknowledged: dict[int, Entry] = {}

    def has_credit(self) -> bool:
        """Whether one more message may be sent to it now."""
        return self.client.writable and (self.mode == "auto" or len(self.unacknowledged) < self.prefetch)

    def deliver(self, entry: Entry) -> None:
        """Send a queue's message."""
        lines = f"MESSAGE\nsubscription:{self.client.escaped(self.name)}\nmessage-id:{entry.seq}\n".encode()
        if self.mode != "auto":
            self.unacknowledged[entry.seq] = entry
            lines += f"ack:{entry.seq}\n".encode()
        if entry.redelivered:
            lines += b"redelivered:true\n"
        self.client.send_message(lines, entry)
        if self.mode == "auto" and self.queue is not None:
            self.queue.acknowledged(entry)

    def settle(self, seq: int, *, taken: bool) -> None:
        """Acknowledge (``taken``) or give back a message; in mode ``client`` all before it, too."""
        if seq not in self.unacknowledged:
            return
        # In mode client an acknowledgement is for all that was delivered before, too; a dict keeps that order.
        delivered = list(self.unacknowledged)
        chosen = delivered[: delivered.index(seq) + 1] if self.mode == "client" else [seq]
        entries = [self.unacknowledged.pop(one) for one in chosen]
        if self.queue is None:
            return
        if taken:
            for entry in entries:
                self.queue.acknowledged(entry)
            self.queue.dispatch()
        else:
            self.queue.take_back(entries)

    def end(self) -> None:
        """The subscription is over: what it has not acknowledged goes to others."""
        if self.queue is None:
            return
        with contextlib.suppress(ValueError):
            self.queue.consumers.remove(self)
        entries = list(self.unacknowledged.values())
        self.unacknowledged.clear()
        self.queue.take_back(entries)


class Broker:
    """All queues, topics and clients."""

    def __init__(self, store: Store, passwords: Mapping[str, str], max_frame_bytes: int) -> None:
        self.passwords = passwords
        self.max_frame_bytes = max_frame_bytes
        self.clients: set[Client] = set()
        self.queues: dict[str, Queue] = {name: Queue(name, store, depth) for name, depth in store.depths.items()}
        self.topics: list[Subscription] = []
        self.counts = {"refused_frames": 0, "refused_logins": 0, "dropped_for_slow": 0, "failed_commits": 0}
        self._store = store
        self._seq = itertools.count(store.last_seq + 1)
        self._uncommitted = 0
        self._held: set[Client] = set()

    def queue(self, name: str) -> Queue:
        """The queue of that name, made at its first use."""
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = Queue(name, self._store)
        return found

    def send_to_queue(self, client: Client, name: str, headers: bytes, body: bytes, receipt: str | None) -> None:
        """Keep a message; its receipt and its delivery come after the commit."""
        queue = self.queue(name)
        seq = next(self._seq)
        self._uncommitted += len(body)

        def done(problem: str | None) -> None:
            self._uncommitted -= len(body)
            self._release()
            if problem is not None:
                self.counts["failed_commits"] += 1
                log.error("broker_commit_failed", queue=name, detail=problem)
                client.fail(f"the message could not be stored: {problem}", receipt)
                return
            client.confirm(receipt)
            queue.committed(Entry(seq, headers, body))

        self._store.submit(Insert(seq, name, headers, body, done))
        if self._uncommitted > MAX_UNCOMMITTED_BYTES:
            client.hold()
            self._held.add(client)

    def send_to_topic(self, name: str, headers: bytes, body: bytes) -> None:
        """Give a message to all who subscribe to its topic now."""
        entry = Entry(next(self._seq), headers, body)
        for subscription in self.topics:
            if matches(subscription.pattern, name):
                if subscription.client.unread_bytes > MAX_UNREAD_BYTES:
                    self.counts["dropped_for_slow"] += 1
                else:
                    subscription.deliver(entry)

    def after_commit(self, done: Callable[[], None]) -> None:
        """Call back when everything that was sent so far is durable."""
        self._store.submit(Barrier(lambda _problem: done()))

    def statistics(self) -> dict[str, Any]:
        """Depth, consumers and counts of each queue, and what was refused."""
        queues = {
            queue.name: {
                "depth": queue.depth,
                "consumers": len(queue.consumers),
                "received": queue.received,
                "delivered": queue.delivered,
            }
            for queue in self.queues.values()
        }
        return {"at": time.time(), "connections": len(self.clients), "queues": queues, **self.counts}

    def _release(self) -> None:
        if self._held and self._uncommitted < MAX_UNCOMMITTED_BYTES // 2:
            for client in self._held:
                client.go_on()
            self._held.clear()


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._parser = FrameParser(broker.max_frame_bytes)
        self._subscriptions: dict[str, Subscription] = {}
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._user: str | None = None
        self._closing = False
        self._heard = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._escapes_return = True
        self.writable = True

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 20)
        self._broker.clients.add(self)
        if len(self._broker.clients) > MAX_CONNECTIONS:
            self.fail("there are too many connections", None)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_LOGIN_WITHIN_S, self._too_late)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client has gone; what it held goes to others."""
        self._closing = True
        self.writable = False
        self._broker.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for subscription in self._subscriptions.values():
            self._drop(subscription)
        self._subscriptions.clear()

    def pause_writing(self) -> None:
        """The client reads too slowly: it gets nothing more for now."""
        self.writable = False

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable = True
        for subscription in list(self._subscriptions.values()):
            if subscription.queue is not None:
                subscription.queue.dispatch()

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of frames."""
        self._heard = time.monotonic()
        if self._closing:
            return
        receipt: str | None = None
        try:
            for frame in self._parser.feed(data):
                receipt = frame.headers.get("receipt")
                self._take(frame)
                if self._transport.is_closing():
                    return
        except (BadFrame, _Refused) as error:
            self._broker.counts["refused_frames"] += 1
            log.warning("broker_refused_frame", user=self._user, detail=str(error))
            self.fail(str(error), receipt if isinstance(error, _Refused) else None)

    # What queues and the broker call.

    @property
    def unread_bytes(self) -> int:
        """What was written and the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def hold(self) -> None:
        """Read nothing more from this client for now."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if not self._closing:
            self._transport.resume_reading()

    def escaped(self, text: str) -> str:
        """A header value of ours as it is written."""
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace(":", "\\c")

    def send_message(self, head: bytes, entry: Entry) -> None:
        """Write a MESSAGE frame: its own head, the sender's headers, the body."""
        length = f"content-length:{len(entry.body)}\n\n".encode()
        self._transport.write(b"".join((head, entry.headers, length, entry.body, b"\0")))

    def confirm(self, receipt: str | None) -> None:
        """Send a receipt."""
        if receipt is not None and not self._closing:
            self._write(Frame("RECEIPT", {"receipt-id": receipt}))

    def fail(self, detail: str, receipt: str | None) -> None:
        """Say what is wrong, and close the connection, as STOMP has it."""
        if self._closing:
            return
        headers = {"message": detail[:1000]}
        if receipt is not None:
            headers["receipt-id"] = receipt
        self._write(Frame("ERROR", headers))
        self._close()

    # Frames.

    def _take(self, frame: Frame) -> None:
        if self._user is None:
            self._connect(frame)
            return
        headers = frame.headers
        match frame.command:
            case "SEND":
                self._send(frame)
                return
            case "ACK" | "NACK":
                self._settle(headers, taken=frame.command == "ACK")
            case "SUBSCRIBE":
                self._subscribe(headers)
            case "UNSUBSCRIBE":
                ended = self._subscriptions.pop(_required(headers, "id"), None)
                if ended is not None:
                    self._drop(ended)
            case "DISCONNECT":
                self._broker.after_commit(lambda: self._goodbye(headers.get("receipt")))
                return
            case _:
                raise _Refused(f"this broker does not know {frame.command}")
        self.confirm(headers.get("receipt"))

    def _connect(self, frame: Frame) -> None:
        if frame.command not in ("CONNECT", "STOMP"):
            raise _Refused("the first frame has to be CONNECT")
        offered = frame.headers.get("accept-version", "1.0").split(",")
        version = next((one for one in ("1.2", "1.1") if one in offered), None)
        if version is None:
            raise _Refused("this broker speaks STOMP 1.1 and 1.2")
        user, password = frame.headers.get("login", ""), frame.headers.get("passcode", "")
        wanted = self._broker.passwords.get(user)
        if not hmac.compare_digest((wanted or "").encode(), password.encode()) or not wanted:
            self._broker.counts["refused_logins"] += 1
            raise _Refused(f"the login of {user[:40]!r} is not right")
        self._user = user
        if self._timer is not None:
            self._timer.cancel()
        beats = self._agree_on_heartbeats(frame.headers.get("heart-beat", "0,0"))
        self._write(Frame("CONNECTED", {"version": version, "server": "neutronflow/embedded", "heart-beat": beats}))

    def _agree_on_heartbeats(self, offer: str) -> str:
        try:
            sends, wants = (int(part) for part in offer.split(","))
        except ValueError:
            raise _Refused("the heart-beat header is not two numbers") from None
        if wants > 0:
            self._beat(max(wants, 100) / 1000)
        if sends > 0:
            self._watch(max(sends, 100) / 1000)
        return f"{max(wants, 0)},{max(sends, 0)}"

    def _beat(self, interval_s: float) -> None:
        if not self._closing:
            if self.writable:
                self._transport.write(b"\n")
            asyncio.get_running_loop().call_later(interval_s / 2, self._beat, interval_s)

    def _watch(self, interval_s: float) -> None:
        if self._closing:
            return
        silent = time.monotonic() - self._heard
        if silent > 2.5 * interval_s:
            log.warning("broker_client_silent", user=self._user, seconds=round(silent, 1))
            self._transport.abort()
            return
        asyncio.get_running_loop().call_later(interval_s, self._watch, interval_s)

    def _too_late(self) -> None:
        self.fail(f"no login came within {_LOGIN_WITHIN_S:g} s", None)

    def _send(self, frame: Frame) -> None:
        if "transaction" in frame.headers:
            raise _Refused("this broker has no transactions")
        kind, name = _bare(_required(frame.headers, "destination"))
        forwarded = {key: value for key, value in frame.headers.items() if key not in _NOT_FORWARDED}
        lines = [f"{self.escaped(key)}:{self.escaped(value)}\n" for key, value in forwarded.items()]
        headers = f"destination:/{kind}/{self.escaped(name)}\n{''.join(lines)}".encode()
        receipt = frame.headers.get("receipt")
        if kind == "queue":
            self._broker.send_to_queue(self, name, headers, frame.body, receipt)
        else:
            self._broker.send_to_topic(name, headers, frame.body)
            self.confirm(receipt)

    def _subscribe(self, headers: Mapping[str, str]) -> None:
        kind, name = _bare(_required(headers, "destination"))
        subscription = Subscription(self, headers, self._broker.queue(name) if kind == "queue" else None)
        if subscription.name in self._subscriptions:
            raise _Refused(f"there is a subscription {subscription.name[:40]!r} already")
        self._subscriptions[subscription.name] = subscription
        if subscription.queue is None:
            subscription.mode = "auto"  # nothing of a topic is kept, so there is nothing to acknowledge
            self._broker.topics.append(subscription)
        else:
            subscription.queue.consumers.append(subscription)
            subscription.queue.dispatch()

    def _settle(self, headers: Mapping[str, str], *, taken: bool) -> None:
        # STOMP 1.2 names the MESSAGE's ack header as id, 1.1 its message-id; here both are the message's number.
        text = headers.get("id") or _required(headers, "message-id")
        if not (text.isascii() and text.isdigit()):
            raise _Refused(f"there is no message {text[:40]!r} to acknowledge")
        chosen = headers.get("subscription")
        for subscription in self._subscriptions.values():
            if chosen is None or subscription.name == chosen:
                subscription.settle(int(text), taken=taken)

    def _drop(self, subscription: Subscription) -> None:
        subscription.end()
        with contextlib.suppress(ValueError):
            self._broker.topics.remove(subscription)

    def _goodbye(self, receipt: str | None) -> None:
        self.confirm(receipt)
        self._close()

    def _write(self, frame: Frame) -> None:
        self._transport.write(frame.to_bytes())

    def _close(self) -> None:
        self._closing = True
        self.writable = False
        self._transport.close()
        # A client that does not read what was written last would keep the connection open for ever.
        asyncio.get_running_loop().call_later(5.0, self._transport.abort)


def statistics_json(broker: Broker) -> str:
    """The broker's statistics as JSON."""
    return json.dumps(broker.statistics())


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise _Refused(f"the header '{name}' is missing")
    return value


def _bare(destination: str) -> tuple[str, str]:
    """Kind and name of a destination; a bare name is a queue."""
    if len(destination) > 255:
        raise _Refused("the destination is longer than 255 characters")
    for kind in ("queue", "topic"):
        if destination.startswith(f"/{kind}/"):
            return kind, destination[len(kind) + 2 :]
    return "queue", destination


def _prefetch(headers: Mapping[str, str]) -> int:
    text = headers.get("prefetch-count") or headers.get("activemq.prefetchSize") or "100"
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise _Refused(f"the prefetch {text[:20]!r} is no number")
    return max(1, int(text))
