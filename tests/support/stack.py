"""The whole stack for the tests: ``neutronflow up`` as a user starts it, in a folder of its own, on ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg

from neutronflow.foundation.config import Settings, load
from neutronflow.store.dsn import dsn
from tests.support.ports import free_offset


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait until the condition gives something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Stack:
    """A running stack."""

    def __init__(self, data_dir: Path, port_offset: int, config: Path, *, simulated: bool = False) -> None:
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NEUTRONFLOW_DATA_DIR": str(data_dir),
            "NEUTRONFLOW_PORT_OFFSET": str(port_offset),
            "NEUTRONFLOW_CONFIG": str(config),
            "NEUTRONFLOW_BEAMLINE__SIMULATED": "true" if simulated else "false",
        }
        self.settings: Settings = load(self.environ)
        self.output = data_dir.with_suffix(".out")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "neutronflow.cli", *words]

    def run(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one subcommand to its end."""
        return subprocess.run(
            self.command(*words), env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(self.command("up"), env=self.environ, stdout=output, stderr=output)
        try:
            wait_until(self._answers, "the stack is up", 120)
        except AssertionError:
            self.stop()
            raise AssertionError(self.output.read_text()[-4000:]) from None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.output.read_text()[-4000:])
        return self.run("status").returncode == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def status(self) -> dict[str, dict[str, Any]]:
        """Each service by its name, as ``neutronflow status --json`` tells it."""
        listed = json.loads(self.run("status", "--json").stdout)
        return {service["name"]: service for service in listed["services"]}

    def url(self, service: str, path: str) -> str:
        return f"http://127.0.0.1:{self.settings.port(service)}{path}"

    def get(self, service: str, path: str) -> httpx.Response:
        """Fetch with the service token."""
        headers = {"Authorization": f"Bearer {self.settings.secret('service-token')}"}
        return httpx.get(self.url(service, path), headers=headers, timeout=10)

    def run_state(self, name: str) -> dict[str, Any]:
        """What the monitor's API says of ``FACILITY/INSTRUMENT/NUMBER``; empty while it knows nothing."""
        with contextlib.suppress(httpx.TransportError):
            reply = self.get("monitor", f"/api/runs/{name}")
            if reply.status_code == httpx.codes.OK:
                found: dict[str, Any] = reply.json()
                return found
        return {}

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn(self.settings, "owner"), autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()


@contextlib.contextmanager
def running_stack(folder: Path, config: str = "", *, simulated: bool = False) -> Iterator[Stack]:
    """A stack with these settings, stopped afterwards. ``simulated``: with the simulated beamline."""
    path = folder / "settings.toml"
    path.write_text(config)
    stack = Stack(folder / "var", free_offset(), path, simulated=simulated)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()
