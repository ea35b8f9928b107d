"""A place for agents to work in: an archive, secrets, a real broker, a web server, and a manager's ears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from neutronflow.domain.messages import destinations as names
from neutronflow.foundation.broker.message import Message, Outgoing, queue, topic
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings, load
from neutronflow.stack.datadir import SECRETS
from tests.support.http import Server, serving
from tests.support.ports import free_offset
from tests.support.recorded import SMALL_RUN

ANSWERS = (
    names.CATALOG_RAW_STARTED, names.CATALOG_RAW_COMPLETE, names.CATALOG_RAW_ERROR,
    names.REDUCTION_STARTED, names.REDUCTION_COMPLETE, names.REDUCTION_ERROR, names.REDUCTION_DISABLED,
    names.REDUCTION_CATALOG_STARTED, names.REDUCTION_CATALOG_COMPLETE, names.CATALOG_ERROR,
    names.POSTPROCESS_ERROR, names.JOB_REPORT, names.DEADLETTER,
)  # fmt: skip

#: Pieces of scripts.
FOREVER = "import time\nwhile True: time.sleep(1)\n"
NOTE_PID = "import os; open('pid.tmp', 'w').write(str(os.getpid())); os.rename('pid.tmp', 'pid')\n"


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Wait for a condition and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def pid_in(file: Path) -> int:
    """The process id that a script has noted, once it has."""
    eventually(file.exists, f"{file}")
    return int(file.read_text())


class Ears:
    """A manager's session on a thread of its own: hears every answer, and speaks."""

    def __init__(self, settings: Settings) -> None:
        self.heard: list[Message] = []
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20), "no broker"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._listen())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _listen(self) -> None:
        async with Session.from_settings(self._settings, user="manager") as session:
            await session.connected()
            self._session = session
            wanted = [*map(queue, ANSWERS), topic(names.TOPIC_AGENT_STATUS), topic(names.TOPIC_ACK)]
            heard = await session.subscribe(wanted, prefetch=100)
            self._ready.set()
            while True:
                message = await heard.get()
                self.heard.append(message)
                await session.ack(message)

    def say(self, message: Outgoing) -> None:
        self._call(self._session.publish(message))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)


class Station:
    """Where agents work. Each test uses run numbers or instruments of its own."""

    def __init__(self, folder: Path, web: Server, **settings: str) -> None:
        self.archive = folder / "archive"
        self.web = web
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "NEUTRONFLOW_DATA_DIR": str(folder / "var"),
            "NEUTRONFLOW_ARCHIVE_ROOT": str(self.archive),
            "NEUTRONFLOW_PORT_OFFSET": str(free_offset()),
            "NEUTRONFLOW_AGENT__CATALOG_URL": web.url,
            "NEUTRONFLOW_AGENT__LIVEDATA_URL": web.url,
            **{f"NEUTRONFLOW_SECRET_{name.upper().replace('-', '_')}": f"value of {name}" for name in SECRETS},
            **settings,
        }
        self.settings = load(self.environ)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a service and wait until it says that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")  # an abstract address of the kernel's choice
            ready.settimeout(0.2)
            deadline = time.monotonic() + 20
            environ = {**self.environ, "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()}
            process = subprocess.Popen([sys.executable, "-m", "neutronflow.cli", *words], env=environ)
            self.processes.append(process)
            said = b""
            while b"READY=1" not in said:
                assert process.poll() is None, f"{words} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{words} is not ready"
                with contextlib.suppress(TimeoutError):
                    said = ready.recv(4096)
        return process

    def agent(self, name: str) -> subprocess.Popen[bytes]:
        return self.start("agent", "--name", name)

    def end(self, process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
        process.send_signal(how)
        return process.wait(timeout=10)

    def outdir(self, instrument: str) -> Path:
        return self.archive / "SNS" / instrument / "IPTS-12345" / "shared" / "autoreduce"

    def script(self, instrument: str, code: str) -> None:
        path = self.archive / "SNS" / instrument / "shared" / "autoreduce" / f"reduce_{instrument}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)

    def data_file(self, instrument: str, run_number: int) -> Path:
        """The recorded run's file, as if it were this run's."""
        path = self.archive / "SNS" / instrument / "IPTS-12345" / "nexus" / f"{instrument}_{run_number}.nxs.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            shutil.copy(SMALL_RUN, path)
        return path

    def command(self, instrument: str, run_number: int, **changes: object) -> dict[str, object]:
        return {
            "facility": "SNS",
            "instrument": instrument,
            "ipts": "IPTS-12345",
            "run_number": run_number,
            "data_file": str(self.data_file(instrument, run_number)),
            "nf_attempt": 2,
            "nf_cycle": 3,
            **changes,
        }


class Bus:
    """What tests say to agents and hear from them."""

    def __init__(self, ears: Ears) -> None:
        self._ears = ears

    def ask(self, destination: str, body: Mapping[str, object] | bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._ears.say(Outgoing(destination=queue(destination), body=data))

    def tell_all(self, destination: str, body: Mapping[str, object] | bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._ears.say(Outgoing(destination=topic(destination), body=data, persistent=False))

    def heard(self, **wanted: object) -> list[tuple[str, dict[str, Any]]]:
        """Every message so far whose fields have these values: destination and content, in the order of arrival."""
        found = []
        for message in list(self._ears.heard):
            with contextlib.suppress(ValueError):
                values = json.loads(message.body)
                if isinstance(values, dict) and wanted.items() <= values.items():
                    found.append((message.destination.name, values))
        return found

    def answer(self, destination: str, seconds: float = 20.0, **wanted: object) -> dict[str, Any]:
        """The first message to ``destination`` with these values."""

        def found() -> list[dict[str, Any]]:
            return [values for name, values in self.heard(**wanted) if name == destination]

        first: dict[str, Any] = eventually(found, f"{destination} with {wanted}, but {self.heard(**wanted)}", seconds)[
            0
        ]
        return first

    def dead_letter(self, body: bytes) -> Message:
        def found() -> list[Message]:
            heard = list(self._ears.heard)
            return [
                message for message in heard if message.destination.name == names.DEADLETTER and message.body == body
            ]

        message: Message = eventually(found, f"a dead letter of {body[:50]!r}")[0]
        return message


@contextlib.contextmanager
def running_station(folder: Path, **settings: str) -> Iterator[tuple[Station, Bus]]:
    """A station whose broker runs; everything started in it is ended afterwards."""
    with serving() as web:
        station = Station(folder, web, **settings)
        try:
            station.start("broker")
            ears = Ears(station.settings)
            try:
                yield station, Bus(ears)
            finally:
                ears.close()
        finally:
            for process in reversed(station.processes):
                process.kill()
                process.wait()
