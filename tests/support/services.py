"""Single services as real processes, with a real broker and a real database; the whole stack is in ``stack``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from neutronflow.foundation.broker.message import Message, Outgoing, queue
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.config import load
from neutronflow.foundation.ids import new_id
from neutronflow.store.dsn import ROLES
from neutronflow.store.roles import ensure_roles, grant
from tests.support.postgres import free_port

BROKER_USERS = BrokerSettings().users


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Wait for a condition and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


class Services:
    """Some services of one place: their settings, processes, messages and database."""

    def __init__(self, folder: Path, conninfo: str, **changes: str) -> None:
        self.archive = folder / "archive"
        self.archive.mkdir(exist_ok=True)
        self._conninfo = conninfo
        where = conninfo_to_dict(conninfo)
        secrets = [f"broker-{user}" for user in BROKER_USERS] + [f"db-{role}" for role in ROLES]
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NEUTRONFLOW_DATA_DIR": str(folder / "var"),
            "NEUTRONFLOW_ARCHIVE_ROOT": str(self.archive),
            "NEUTRONFLOW_BROKER__PORT": str(free_port()),
            "NEUTRONFLOW_BROKER__FSYNC": "false",
            "NEUTRONFLOW_DATABASE__PORT": str(where["port"]),
            "NEUTRONFLOW_DATABASE__NAME": str(where["dbname"]),
            **{f"NEUTRONFLOW_SECRET_{name.upper().replace('-', '_')}": f"of {name}" for name in secrets},
            **changes,
        }
        self.settings = load(self.environ)
        self._processes: list[subprocess.Popen[bytes]] = []

    def prepare_roles(self) -> None:
        """Give the services' roles their rights in this (migrated) database."""
        name = str(conninfo_to_dict(self._conninfo)["dbname"])
        passwords = {role: f"of db-{role}" for role in ROLES}
        ensure_roles(self._conninfo, passwords, workflow=name, livedata=f"livedata_of_{name}")
        grant(self._conninfo)

    def start(self, *words: str, **changes: str) -> subprocess.Popen[bytes]:
        """Start a service, with these changes of its environment, and wait until it says that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")  # an abstract address of the kernel's choice
            ready.settimeout(20)
            environ = {**self.environ, **changes, "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()}
            process = subprocess.Popen([sys.executable, "-m", "neutronflow.cli", *words], env=environ)
            self._processes.append(process)
            while b"READY=1" not in ready.recv(4096):
                pass
        return process

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "neutronflow.cli", *words]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=False)

    def end(self, process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
        process.send_signal(how)
        return process.wait(timeout=10)

    def end_all(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                self.end(process, signal.SIGKILL)

    def publish(self, *messages: Outgoing) -> None:
        """Publish as another service would, with receipts."""

        async def send() -> None:
            async with Session.from_settings(self.settings, user="translator") as session:
                await session.publish_many(messages, timeout=20)

        asyncio.run(send())

    def collect(self, destinations: Sequence[str], count: int, seconds: float = 20.0) -> list[Message]:
        """Take and acknowledge so many messages of these queues, in the order in which they come."""

        async def listen() -> list[Message]:
            taken: list[Message] = []
            async with Session.from_settings(self.settings, user="agent") as session, asyncio.timeout(seconds):
                subscription = await session.subscribe([queue(name) for name in destinations])
                while len(taken) < count:
                    batch = await subscription.get_batch(count - len(taken))
                    await session.ack(batch)
                    taken += batch
            return taken

        return asyncio.run(listen())

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def do(self, statement: str) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())

    def data_file(self, instrument: str, run_number: int) -> str:
        path = self.archive / f"SNS/{instrument}/IPTS-1/nexus/{instrument}_{run_number}.nxs.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path)

    def body(self, run_number: int, instrument: str = "HYS", **changes: object) -> dict[str, object]:
        """A run message about a run of this archive."""
        return {
            "facility": "SNS",
            "instrument": instrument,
            "ipts": "IPTS-1",
            "run_number": run_number,
            "data_file": self.data_file(instrument, run_number),
            **changes,
        }


def outgoing(
    destination: str, body: Mapping[str, object] | bytes, headers: Mapping[str, str] | None = None
) -> Outgoing:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = headers or {}
    return Outgoing(destination=queue(destination), body=data, headers=headers, nf_id=headers.get("nf-id", new_id()))


@contextlib.contextmanager
def services(folder: Path, conninfo: str, **changes: str) -> Iterator[Services]:
    """A place for services, whose processes end with it."""
    place = Services(folder, conninfo, **changes)
    try:
        yield place
    finally:
        place.end_all()
