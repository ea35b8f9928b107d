"""What sends runs to the translator, as the stream service does."""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from neutronflow.domain.adara.packets import Empty, TranslationComplete, decode
from neutronflow.domain.adara.wire import Packet, PacketReader


class Sender:
    """One connection to the translator: one run."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end(self) -> None:
        """Nothing more will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def break_off(self) -> None:
        """End the connection as a crash does: with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def packets(self) -> list[Packet]:
        """Everything that the translator says, until it ends the connection."""
        said = b"".join(iter(lambda: self._socket.recv(65536), b""))
        return list(PacketReader().feed(said))

    def answer(self) -> TranslationComplete:
        """What became of the run."""
        complete, heartbeat = map(decode, self.packets())
        assert isinstance(complete, TranslationComplete)
        assert heartbeat == Empty(data_done=False)
        return complete


def send_run(port: int, data: bytes) -> TranslationComplete:
    """Send a whole stream and take the answer."""
    with Sender(port) as sender:
        sender.send(data)
        sender.end()
        return sender.answer()
