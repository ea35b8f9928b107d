"""That an agent is there: a heartbeat every 30 s, and an answer to every ping, also while jobs run."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

import msgspec

from neutronflow.domain.messages import destinations as names
from neutronflow.foundation.broker.message import Destination, Message, Outgoing, topic
from neutronflow.foundation.broker.session import Session, Subscription
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger

HEARTBEAT_S = 30.0

_REPLY_TO = re.compile(r"(?:/topic/)?(?P<name>[A-Za-z0-9_.-]{1,200})\Z")
_MAX_PING_BYTES = 10_000

log = get_logger(__name__)


class BadPing(NeutronflowError):
    """The ping cannot be answered: {detail}."""

    code = "bad-ping"


async def beat(session: Session, agent: str) -> None:
    """Send heartbeats for ever; while the broker is away there are none."""
    while True:
        await session.send_nowait(_transient(topic(names.TOPIC_AGENT_STATUS), _identity(agent)))
        await asyncio.sleep(HEARTBEAT_S)


async def open_pings(session: Session) -> Subscription:
    """Begin to take pings."""
    return await session.subscribe([topic(names.TOPIC_PING)], prefetch=10)


async def answer_pings(session: Session, pings: Subscription, agent: str) -> None:
    """Answer pings for ever. What is no ping is logged and dropped."""
    while True:
        message = await pings.get()
        try:
            await session.send_nowait(pong(message, agent))
        except BadPing as error:
            log.warning("bad_ping", detail=str(error))
        await session.ack(message)


def pong(message: Message, agent: str) -> Outgoing:
    """The answer to a ping: its own content and who answers. Raises :class:`BadPing`.

    Only topics are answered to, so that no ping can put messages into a queue of the workflow.
    """
    if len(message.body) > _MAX_PING_BYTES:
        raise BadPing(detail=f"it has {len(message.body)} bytes")
    try:
        ping = msgspec.json.decode(message.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPing(detail=f"it is no JSON object ({error})") from error
    found = _REPLY_TO.match(str(ping.get("reply_to", "")))
    if found is None:
        raise BadPing(detail="its reply_to names no topic")
    return _transient(topic(found["name"]), {**ping, **_identity(agent)})


def _identity(agent: str) -> dict[str, str]:
    return {"src_name": agent, "role": "postprocessing", "status": "0", "pid": str(os.getpid())}


def _transient(destination: Destination, values: dict[str, Any]) -> Outgoing:
    return Outgoing(destination=destination, body=msgspec.json.encode(values), persistent=False)
