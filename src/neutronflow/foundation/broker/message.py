"""What travels: destinations and messages, as our services see them on any broker."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from neutronflow.foundation.ids import new_id

#: Header in which our senders identify a message (decision 4). It survives every broker and every re-publication.
NF_ID = "nf-id"


class Kind(enum.StrEnum):
    """How a destination delivers: to one consumer, or to all."""

    QUEUE = "queue"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Destination:
    """A queue or topic by its bare name, such as ``REDUCTION.DATA_READY``.

    How it is written on the wire is the dialect's business. Topics may hold ``*`` for one dot-separated level.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"/{self.kind}/{self.name}"


def queue(name: str) -> Destination:
    """The queue of that name: each message goes to one consumer."""
    return Destination(Kind.QUEUE, name)


def topic(name: str) -> Destination:
    """The topic of that name: each message goes to all subscribers."""
    return Destination(Kind.TOPIC, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that a broker delivered. It stays the consumer's until acknowledged."""

    destination: Destination
    body: bytes
    #: As received, unescaped; the first of repeated headers wins (STOMP 1.2).
    headers: Mapping[str, str]
    message_id: str
    #: What an ACK frame needs, and of which connection: acknowledging a message of an earlier connection is a no-op.
    ack_id: str
    connection: int
    redelivered: bool = False

    @property
    def nf_id(self) -> str | None:
        """The sender's identity of this message, if it is one of ours."""
        return self.headers.get(NF_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to be published."""

    destination: Destination
    body: bytes
    persistent: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    nf_id: str = field(default_factory=new_id)
