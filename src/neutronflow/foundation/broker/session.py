"""A STOMP session with delivery guarantees: receipts, acknowledgement by the caller, reconnection without end.

Nothing is acknowledged before the caller says so, and nothing counts as published before the broker's receipt. A lost
connection is made again with jittered back-off; what was not receipted is sent again with the same ``nf-id``, and what was
not acknowledged is delivered again by the broker, so every consumer has to recognise repetitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Iterable, Sequence

from neutronflow.foundation.broker.frames import BadFrame, Frame, FrameParser
from neutronflow.foundation.broker.message import NF_ID, Destination, Kind, Message, Outgoing
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.broker.subscription import Subscription
from neutronflow.foundation.config import Settings
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger

__all__ = ["BrokerUnavailable", "PublicationRefused", "Session", "Subscription", "SubscriptionRefused"]

log = get_logger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
#: A connection that lasted this long was a good one: the next is tried soon.
_GOOD_AFTER_S = 5.0
#: How many receipts are awaited at a time; what goes beyond waits for its turn.
_WINDOW = 500


class BrokerUnavailable(NeutronflowError):
    """The broker at {where} cannot be used: {detail}."""

    code = "broker-unavailable"


class PublicationRefused(NeutronflowError):
    """The broker refused a message to {destination}: {detail}."""

    code = "publication-refused"


class SubscriptionRefused(NeutronflowError):
    """The broker refused the subscription to {destination}: {detail}."""

    code = "subscription-refused"


class _Refused(Exception):
    """The broker's ERROR to a frame with a receipt; internal."""


class _ConnectionLost(Exception):
    """The connection ended before an answer; internal, for what is to be tried again."""


class Session:
    """One connection to the broker, made again whenever it is lost."""

    def __init__(self, host: str, port: int, user: str, password: str, settings: BrokerSettings) -> None:
        self._address = (host, port)
        self._login = (user, password)
        self._settings = settings
        self._subscriptions: dict[str, tuple[Subscription, Destination]] = {}
        self._receipts: dict[str, asyncio.Future[None]] = {}
        self._numbers = itertools.count(1)
        self._connection = 0
        self._writer: asyncio.StreamWriter | None = None
        self._established = asyncio.Event()
        self._last_error = "no connection was made yet"
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def from_settings(cls, settings: Settings, *, user: str) -> Session:
        """A session for one of our services; the password is the secret ``broker-<user>``."""
        own = settings.section("broker", BrokerSettings)
        port = own.port if own.port is not None else settings.port("stomp")
        return cls(own.host, port, user, settings.secret(f"broker-{user}"), own)

    async def __aenter__(self) -> Session:
        self._task = asyncio.create_task(self._stay_connected(), name="stomp-session")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the session has a connection right now."""
        return self._established.is_set() and not self._closed

    async def connected(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - what callers expect
        """Wait for a connection. Raises :class:`BrokerUnavailable` with the last error after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._await_connection()
        except TimeoutError:
            raise self._unavailable() from None

    async def _await_connection(self) -> None:
        # The event may be cleared again before a waiter runs.
        while not self.is_connected:
            if self._closed:
                raise self._unavailable()
            await self._established.wait()

    def _unavailable(self) -> BrokerUnavailable:
        return BrokerUnavailable(where="{}:{}".format(*self._address), detail=self._last_error)

    async def close(self) -> None:
        """Leave in good order: what was written is flushed and confirmed, the connection closed.

        Whoever waits for a connection then gets :class:`BrokerUnavailable`.
        """
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError, OSError, _ConnectionLost, _Refused):
            async with asyncio.timeout(2):
                await self._disconnect()
        self._closed = True
        self._last_error = "the session is closed"
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        writer = self._writer
        self._lost()
        self._established.set()  # wakes those who wait for it, to be told
        if writer is not None:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _disconnect(self) -> None:
        if self._writer is not None and self.is_connected:
            receipt, done = self._new_receipt()
            self._write(Frame("DISCONNECT", {"receipt": receipt}))
            await done

    async def subscribe(self, destinations: Iterable[Destination], prefetch: int = 100) -> Subscription:
        """Subscribe to several destinations at once, with client-individual acknowledgement.

        Returns when the broker has confirmed it, so that nothing sent to a topic from then on is missed; where there is no
        connection, at once. Subscriptions are made again after each reconnection. Raises :class:`SubscriptionRefused`.
        """
        subscription = Subscription(next(self._numbers), tuple(destinations), prefetch)
        names = {f"{subscription.number}-{index}": one for index, one in enumerate(subscription.destinations)}
        self._subscriptions.update({name: (subscription, one) for name, one in names.items()})
        if self.is_connected:
            confirmed = [self._subscribe(name, one, prefetch) for name, one in names.items()]
            for destination, result in zip(names.values(), await _outcomes(confirmed), strict=True):
                if isinstance(result, _Refused):
                    for name in names:
                        del self._subscriptions[name]
                    raise SubscriptionRefused(destination=destination, detail=result)
        return subscription

    async def ack(self, messages: Message | Sequence[Message]) -> None:
        """Acknowledge: the effect of these messages is durable. Those of an earlier connection are left to the broker."""
        batch = [messages] if isinstance(messages, Message) else messages
        frames = [
            Frame("ACK", {"id": message.ack_id}).to_bytes()
            for message in batch
            if message.ack_id and message.connection == self._connection
        ]
        if frames and self._writer is not None and self.is_connected:
            self._writer.write(b"".join(frames))
            with contextlib.suppress(OSError):
                await self._writer.drain()

    async def publish(self, message: Outgoing, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Publish and wait for the receipt, over as many connections as it takes."""
        await self.publish_many([message], timeout)

    async def publish_many(self, messages: Sequence[Outgoing], timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Publish and wait for all receipts, over as many connections as it takes.

        Raises :class:`BrokerUnavailable` after ``timeout`` seconds or when the session is closed, and
        :class:`PublicationRefused` where the broker says no to one of them, after all others are published.
        """
        for refusal in (await self.publish_all(messages, timeout)).values():
            raise refusal

    async def publish_all(
        self,
        messages: Sequence[Outgoing],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, PublicationRefused]:
        """As :meth:`publish_many`, but gives back what was refused, by nf-id; all others are published."""
        refused: dict[str, PublicationRefused] = {}
        try:
            async with asyncio.timeout(timeout):
                for start in range(0, len(messages), _WINDOW):
                    refused |= await self._publish_window(list(messages[start : start + _WINDOW]))
        except TimeoutError:
            raise self._unavailable() from None
        return refused

    async def send_nowait(self, message: Outgoing) -> None:
        """Publish without a receipt; dropped where there is no connection. For heartbeats."""
        frame = self._send_frame(message, None)
        problem = self._unsendable(frame)
        if problem is not None:
            log.warning("message_refused", destination=str(message.destination), detail=problem)
        elif self.is_connected:
            self._write(frame)

    async def _publish_window(self, window: list[Outgoing]) -> dict[str, PublicationRefused]:
        refused: dict[str, PublicationRefused] = {}
        while window:
            await self._await_connection()
            frames: list[bytes] = []
            receipts = [self._compose(message, frames) for message in window]
            if self._writer is not None:
                self._writer.writelines(frames)
                with contextlib.suppress(OSError):
                    await self._writer.drain()
            again: list[Outgoing] = []
            for message, result in zip(window, await _outcomes(receipts), strict=True):
                if isinstance(result, _Refused):
                    refused[message.nf_id] = PublicationRefused(destination=message.destination, detail=result)
                elif result is not None:
                    again.append(message)
            window = again
        return refused

    def _compose(self, message: Outgoing, frames: list[bytes]) -> asyncio.Future[None]:
        """Add the message's frame to those that will be written; its receipt."""
        receipt, done = self._new_receipt()
        frame = self._send_frame(message, receipt)
        problem = self._unsendable(frame)
        if problem is None:
            frames.append(frame.to_bytes())
        else:
            # The broker could only close the connection, again and again.
            del self._receipts[receipt]
            done.set_exception(_Refused(problem))
        return done

    def _subscribe(self, name: str, destination: Destination, prefetch: int) -> asyncio.Future[None]:
        receipt, done = self._new_receipt()
        headers = {"id": name, "destination": str(destination), "receipt": receipt, "ack": "client-individual"}
        if destination.kind is Kind.TOPIC:
            headers["ack"] = "auto"
        headers["prefetch-count"] = headers["activemq.prefetchSize"] = str(prefetch)
        self._write(Frame("SUBSCRIBE", headers))
        return done

    def _new_receipt(self) -> tuple[str, asyncio.Future[None]]:
        receipt = str(next(self._numbers))
        done = asyncio.get_running_loop().create_future()
        self._receipts[receipt] = done
        return receipt, done

    def _write(self, frame: Frame) -> None:
        if self._writer is not None:
            self._writer.write(frame.to_bytes())

    def _send_frame(self, message: Outgoing, receipt: str | None) -> Frame:
        headers = {
            **message.headers,
            "destination": str(message.destination),
            "persistent": "true" if message.persistent else "false",
            NF_ID: message.nf_id,
        }
        if receipt is not None:
            headers["receipt"] = receipt
        return Frame("SEND", headers, message.body)

    def _unsendable(self, frame: Frame) -> str | None:
        """Why no broker could take a frame, which would be sent again and again; None where it can be sent."""
        if any("\0" in name or "\0" in value for name, value in frame.headers.items()):
            return "a header holds a NUL"
        return frame.excess(self._settings.max_frame_bytes)

    async def _stay_connected(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._one_connection()
            except (OSError, BadFrame, _ConnectionLost, TimeoutError) as error:
                self._last_error = str(error) or type(error).__name__
            if self.is_connected and time.monotonic() - began > _GOOD_AFTER_S:
                pause = _FIRST_PAUSE_S
            self._lost()
            log.warning("broker_connection_lost", where="{}:{}".format(*self._address), detail=self._last_error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _lost(self) -> None:
        self._established.clear()
        self._connection += 1
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for subscription, _ in self._subscriptions.values():
            subscription.forget()
        receipts, self._receipts = self._receipts, {}
        for done in receipts.values():
            if not done.done():
                done.set_exception(_ConnectionLost(self._last_error))
                # Whoever awaits it sees the exception; where nobody does, that is no fault.
                done.exception()

    async def _one_connection(self) -> None:
        async with asyncio.timeout(self._settings.connect_timeout_s):
            reader, self._writer = await asyncio.open_connection(*self._address)
            parser = FrameParser(self._settings.max_frame_bytes)
            connected, rest = await self._handshake(reader, parser)
        theirs_s, ours_s = self._agree_on_heartbeats(connected)
        for name, (subscription, destination) in self._subscriptions.items():
            self._subscribe(name, destination, subscription.prefetch)
        self._established.set()
        log.info("broker_connected", where="{}:{}".format(*self._address), user=self._login[0])
        beat = asyncio.create_task(self._beat(ours_s)) if ours_s else None
        try:
            for frame in rest:
                self._take(frame)
            await self._read(reader, parser, theirs_s)
        finally:
            if beat is not None:
                beat.cancel()

    async def _handshake(self, reader: asyncio.StreamReader, parser: FrameParser) -> tuple[Frame, list[Frame]]:
        user, password = self._login
        beat = str(int(self._settings.heartbeat_s * 1000))
        headers = {
            "accept-version": "1.2,1.1",
            "host": self._address[0],
            "login": user,
            "passcode": password,
            "heart-beat": f"{beat},{beat}",
        }
        self._write(Frame("CONNECT", headers))
        while True:
            frames = await self._frames(reader, parser)
            if frames:
                if frames[0].command != "CONNECTED":
                    raise _ConnectionLost(frames[0].headers.get("message") or "the broker refused the connection")
                return frames[0], frames[1:]

    async def _frames(self, reader: asyncio.StreamReader, parser: FrameParser) -> list[Frame]:
        data = await reader.read(1 << 18)
        if not data:
            raise _ConnectionLost("the broker closed the connection")
        return list(parser.feed(data))

    def _agree_on_heartbeats(self, connected: Frame) -> tuple[float, float]:
        """(how often the broker sends, how often we do), in seconds; 0 for never."""
        try:
            sends, wants = (int(part) / 1000 for part in connected.headers.get("heart-beat", "0,0").split(","))
        except ValueError:
            sends, wants = 0.0, 0.0
        own = self._settings.heartbeat_s
        return (max(own, sends) if own and sends else 0.0), (max(own, wants) if own and wants else 0.0)

    async def _beat(self, interval_s: float) -> None:
        while self._writer is not None:
            self._writer.write(b"\n")
            await asyncio.sleep(interval_s / 2)

    async def _read(self, reader: asyncio.StreamReader, parser: FrameParser, silence_s: float) -> None:
        while True:
            try:
                async with asyncio.timeout(2.5 * silence_s if silence_s else None):
                    frames = await self._frames(reader, parser)
            except TimeoutError:
                raise _ConnectionLost(f"nothing came from the broker for {2.5 * silence_s:g} s") from None
            for frame in frames:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        if frame.command == "MESSAGE":
            self._deliver(frame)
        elif frame.command == "RECEIPT":
            done = self._receipts.pop(frame.headers.get("receipt-id", ""), None)
            if done is not None and not done.done():
                done.set_result(None)
        elif frame.command == "ERROR":
            detail = frame.headers.get("message", "") or frame.body[:200].decode(errors="replace")
            done = self._receipts.pop(frame.headers.get("receipt-id", ""), None)
            if done is not None and not done.done():
                done.set_exception(_Refused(detail))
                done.exception()  # a reconnection's subscription has nobody who waits for it
            raise _ConnectionLost(detail)

    def _deliver(self, frame: Frame) -> None:
        entry = self._subscriptions.get(frame.headers.get("subscription", ""))
        if entry is None:
            log.warning("message_without_subscription", destination=frame.headers.get("destination"))
            return
        subscription, asked = entry
        message = Message(
            destination=_destination(frame.headers.get("destination", str(asked))),
            body=frame.body,
            headers=frame.headers,
            message_id=frame.headers.get("message-id", ""),
            ack_id=frame.headers.get("ack", "") if asked.kind is Kind.QUEUE else "",
            connection=self._connection,
            redelivered=frame.headers.get("redelivered") == "true",
        )
        subscription.put(message)


async def _outcomes(receipts: Sequence[asyncio.Future[None]]) -> list[_Refused | _ConnectionLost | None]:
    """Wait for all of these receipts; what became of each."""
    outcomes: list[_Refused | _ConnectionLost | None] = []
    for result in await asyncio.gather(*receipts, return_exceptions=True):
        if result is not None and not isinstance(result, _Refused | _ConnectionLost):
            raise result
        outcomes.append(result)
    return outcomes


def _destination(text: str) -> Destination:
    for kind in Kind:
        if text.startswith(f"/{kind}/"):
            return Destination(kind, text[len(kind) + 2 :])
    return Destination(Kind.QUEUE, text)
