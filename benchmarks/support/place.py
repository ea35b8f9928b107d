"""Single services as real processes for a measurement, with a fresh PostgreSQL (fsync on) and a fresh broker."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from neutronflow.foundation.config import PORTS, load
from neutronflow.stack.datadir import DataDirectory
from neutronflow.stack.postgres import EmbeddedPostgres
from neutronflow.store.dsn import dsn


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait for a condition, looking every 10 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Place:
    """Services of one measurement."""

    def __init__(self, folder: Path) -> None:
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NEUTRONFLOW_DATA_DIR": str(folder / "var"),
            "NEUTRONFLOW_PORT_OFFSET": str(_free_offset()),
            "NEUTRONFLOW_LOG_LEVEL": "warning",
        }
        self.settings = load(self.environ)
        data = DataDirectory(self.settings.data_dir)
        data.prepare()
        data.make_secrets()
        self.settings.archive_root.mkdir(parents=True, exist_ok=True)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_postgresql(self) -> None:
        """A new cluster with the migrated workflow schema."""
        server = EmbeddedPostgres(self.settings)
        server.prepare()
        log = self.settings.data_dir / "postgresql.log"
        with log.open("wb") as output:
            self._processes.append(subprocess.Popen(server.command(), stdout=output, stderr=output))
        wait_until(server.answers, "PostgreSQL answers")
        subprocess.run([*_cli(), "database", "prepare"], env=self.environ, check=True, stderr=subprocess.DEVNULL)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a service and wait until it says that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")  # an abstract address of the kernel's choice
            ready.settimeout(30)
            environ = {**self.environ, "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()}
            process = subprocess.Popen([*_cli(), *words], env=environ)
            self._processes.append(process)
            while b"READY=1" not in ready.recv(4096):
                pass
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a service in good order."""
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)

    def end_all(self) -> None:
        """Stop what is left, the last first."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=20)

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection as the owner."""
        with psycopg.connect(dsn(self.settings, "owner"), autocommit=True) as connection:
            yield connection


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A folder for services, which are stopped and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nf-bench-"))
    # PostgreSQL may run as another user, who has to get to its folder.
    folder.chmod(0o711)
    made = Place(folder)
    try:
        yield made
    finally:
        made.end_all()
        shutil.rmtree(folder, ignore_errors=True)


def _cli() -> list[str]:
    return [sys.executable, "-m", "neutronflow.cli"]


def _free_offset() -> int:
    for offset in random.sample(range(100, 3800), 200):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in PORTS.values():
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return offset
    raise RuntimeError("no free ports")
