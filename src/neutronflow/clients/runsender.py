"""Sends a run's stream to the translator and reads its answer: for tools that have the whole stream at hand."""

from __future__ import annotations

import contextlib
import socket

from neutronflow.domain.adara.packets import TranslationComplete, decode
from neutronflow.domain.adara.wire import PacketReader


class Unanswered(ConnectionResetError):
    """The translator has ended the connection without an answer."""


def send_run(connection: socket.socket, stream: bytes) -> TranslationComplete:
    """Send a whole stream; the answer. Raises OSError, or :class:`Unanswered`."""
    # The translator may refuse the stream before its end: its answer says why, if there is one.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
    return read_answer(connection)


def read_answer(connection: socket.socket) -> TranslationComplete:
    """The translator's answer. Raises OSError, or :class:`Unanswered`."""
    reader = PacketReader()
    while data := connection.recv(65536):
        for packet in reader.feed(data):
            answer = decode(packet)
            if isinstance(answer, TranslationComplete):
                return answer
    raise Unanswered("it ended without an answer")
