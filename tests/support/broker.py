"""An embedded broker in a process of its own, and a client that writes bytes as it likes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neutronflow.foundation.broker.frames import Frame, FrameParser
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.config import PORTS, load
from tests.support.postgres import free_port

USERS = BrokerSettings().users


def eventually(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Wait for a condition and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return found


class BrokerProcess:
    """``neutronflow broker``, to be killed and started again on the same store and port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NEUTRONFLOW_DATA_DIR": str(folder),
            "NEUTRONFLOW_PORT_OFFSET": str(free_port() - PORTS["stomp"]),
            **{f"NEUTRONFLOW_SECRET_BROKER_{user.upper()}": f"password of {user}" for user in USERS},
            **settings,
        }
        self.settings = load(self.environ)
        self.port = self.settings.port("stomp")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")  # an abstract address of the kernel's choice
            ready.settimeout(20)
            environ = {**self.environ, "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()}
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(self.command, env=environ, stderr=log)
            while b"READY=1" not in ready.recv(4096):
                pass

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "neutronflow.cli", "broker"]

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(timeout=10)

    def memory(self) -> int:
        """Resident memory, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmRSS:")[1].split()[0])

    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "broker" / "statistics.json").read_text())
        return found

    def raw(self, **headers: str) -> Raw:
        """A client that is logged in."""
        client = Raw(self.port)
        client.login(**headers)
        return client


@contextlib.contextmanager
def running_broker(folder: Path, **settings: str) -> Iterator[BrokerProcess]:
    """A broker that runs; it is killed afterwards if it still does."""
    broker = BrokerProcess(folder, **settings)
    broker.start()
    try:
        yield broker
    finally:
        assert broker.process is not None
        broker.process.kill()
        broker.process.wait()


class Raw:
    """A socket that speaks frames, good ones and bad ones."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = FrameParser()
        self._frames: list[Frame] = []

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def login(self, user: str = "manager", **more: str) -> Frame:
        headers = {"accept-version": "1.2", "host": "x", "login": user, "passcode": f"password of {user}", **more}
        self.frame("CONNECT", headers)
        return self.expect("CONNECTED")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frame(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send(Frame(command, headers, body).to_bytes())

    def publish(self, destination: str, body: bytes = b"", **headers: str) -> None:
        """Send one message and wait for its receipt."""
        self.frame("SEND", {"destination": destination, "receipt": "published", **headers}, body)
        assert self.expect("RECEIPT").headers["receipt-id"] == "published"

    def subscribe(self, destination: str, ack: str = "client-individual", prefetch: int = 100, name: str = "s") -> None:
        """Subscribe. The receipt is waited for, and messages that came before it are kept."""
        headers = {"id": name, "destination": destination, "ack": ack, "prefetch-count": str(prefetch)}
        self.frame("SUBSCRIBE", {**headers, "receipt": "subscribed"})
        before = []
        while (frame := self.next()).command != "RECEIPT":
            before.append(frame)
        self._frames[:0] = before

    def ack(self, message: Frame, command: str = "ACK") -> None:
        """Acknowledge, and wait until that is durable."""
        self.frame(command, {"id": message.headers["ack"], "receipt": "settled"})
        before = []
        while (frame := self.next()).command != "RECEIPT":
            before.append(frame)
        self._frames[:0] = before

    def next(self) -> Frame:
        """The next frame."""
        while not self._frames:
            data = self.socket.recv(1 << 16)
            assert data, "the broker closed the connection"
            self._frames += self._parser.feed(data)
        return self._frames.pop(0)

    def expect(self, command: str) -> Frame:
        frame = self.next()
        assert frame.command == command, frame
        return frame

    def messages(self, count: int) -> list[Frame]:
        return [self.expect("MESSAGE") for _ in range(count)]

    def hears_nothing_before(self, marker: str = "/queue/marker") -> None:
        """Nothing is on its way: the receipt of a message that was sent now comes first."""
        self.publish(marker)

    def is_closed(self) -> bool:
        """Wait until the broker closes the connection."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(1 << 16):
                self._frames += self._parser.feed(data)
        return True
