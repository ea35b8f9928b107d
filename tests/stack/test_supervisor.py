"""The supervisor with small real children."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from neutronflow.stack import supervisor as supervising
from neutronflow.stack.errors import PostgresFailed, ServiceFailed
from neutronflow.stack.output import Output
from neutronflow.stack.postgres import launched
from neutronflow.stack.services import Service
from neutronflow.stack.supervisor import Supervisor

#: What the children have at hand: ``ready()``, ``say(name)``, ``until(path)``; ``signal`` is imported.
PRELUDE = """
import os, pathlib, signal, socket, sys, time
def ready(status=''):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(f'READY=1\\nSTATUS={status}'.encode(), '\\0' + os.environ['NOTIFY_SOCKET'][1:])
def say(word):
    with open('said', 'a') as f: f.write(word + '\\n')
def until(path):
    while not pathlib.Path(path).exists(): time.sleep(0.01)
"""
STAYS = "ready('here'); signal.pause()"


def child(name: str, code: str, **more: Any) -> Service:
    return Service(name=name, command=lambda: launched([sys.executable, "-S", "-c", PRELUDE + code]), **more)


class Place:
    """One folder with one supervisor."""

    def __init__(self, folder: Path, services: Sequence[Service]) -> None:
        self.folder = folder
        self.terminal = io.StringIO()
        self.output = Output(folder, self.terminal)
        self.supervisor = Supervisor(services, self.output, folder / "status.json", os.environ)

    def status(self) -> dict[str, dict[str, Any]]:
        told = json.loads((self.folder / "status.json").read_text())
        return {service["name"]: service for service in told["services"]}

    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().split() if path.exists() else []

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.terminal.getvalue()}"
            await asyncio.sleep(0.02)


def supervise(
    folder: Path, services: Sequence[Service], body: Callable[[Place], Awaitable[None]], *, start: bool = True
) -> Place:
    """Start these services, do something, stop them."""

    async def main() -> Place:
        place = Place(folder, services)
        starting = asyncio.create_task(place.supervisor.start())
        try:
            if start:
                await starting
            await body(place)
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await place.supervisor.stop()
            place.output.close()
        return place

    return asyncio.run(main())


async def nothing(_place: Place) -> None:
    """Nothing to do."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_service_starts_only_when_what_it_needs_is_ready(tmp_path: Path) -> None:
    services = [
        child("page", "say('page'); " + STAYS, needs=("database",)),
        child("database", "say('begun'); until('go'); say('database'); " + STAYS),
    ]

    async def body(place: Place) -> None:
        await place.until(lambda: place.said() == ["begun"], "the database has begun")
        assert place.status()["page"]["state"] == "waiting"
        (tmp_path / "go").touch()
        await place.until(lambda: place.status()["page"]["ready"], "the page is ready")
        assert place.said() == ["begun", "database", "page"]
        assert place.status()["page"]["status"] == "here"

    supervise(tmp_path, services, body, start=False)


def test_a_task_is_ready_when_it_has_ended_well(tmp_path: Path) -> None:
    services = [child("prepare", "say('prepared')", kind="task"), child("page", STAYS, needs=("prepare",))]

    async def body(place: Place) -> None:
        assert place.status()["prepare"]["state"] == "done"
        assert place.said() == ["prepared"]

    supervise(tmp_path, services, body)


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    async def body(place: Place) -> None:
        old = place.status()["page"]["pid"]
        os.kill(old, signal.SIGKILL)
        await place.until(lambda: place.status()["page"]["restarts"] == 1, "it has ended")
        await place.until(lambda: place.status()["page"]["ready"], "it is ready again")
        assert place.status()["page"]["pid"] != old

    supervise(tmp_path, [child("page", STAYS)], body)


def test_a_service_that_ends_again_and_again_is_started_at_longer_and_longer_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_FIRST_PAUSE_S", 0.05)

    async def body(place: Place) -> None:
        await place.until(lambda: place.status()["page"]["restarts"] == 4, "it has ended four times")

    supervise(tmp_path, [child("page", "say(repr(time.monotonic())); ready()")], body)
    moments = [float(word) for word in (tmp_path / "said").read_text().split()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert pauses[2] > 0.2
    assert pauses[2] > pauses[0]


def test_a_service_that_never_gets_ready_keeps_the_stack_from_starting(tmp_path: Path) -> None:
    broken = child("page", "say('tried'); print('the page is broken'); sys.exit(1)")
    with pytest.raises(ServiceFailed, match=r"page did not start: the page is broken \(its log: .*page.log\)"):
        supervise(tmp_path, [broken, child("other", STAYS)], nothing)
    assert (tmp_path / "said").read_text().split() == ["tried"] * 3
    assert "the page is broken" in (tmp_path / "page.log").read_text()


def test_a_service_that_says_that_it_cannot_start_is_believed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="no licence"):
        supervise(tmp_path, [child("page", "say('tried'); print('no licence'); sys.exit(2)")], nothing)
    assert (tmp_path / "said").read_text().split() == ["tried"]


def test_what_fails_before_a_later_start_is_tried_again(tmp_path: Path) -> None:
    times: list[float] = []

    def before() -> None:
        times.append(time.monotonic())
        if len(times) == 2:
            raise PostgresFailed(detail="the disk was full for a moment")

    async def body(place: Place) -> None:
        os.kill(place.status()["page"]["pid"], signal.SIGKILL)
        await place.until(lambda: len(times) == 3 and place.status()["page"]["ready"], "it is ready again")

    supervise(tmp_path, [child("page", STAYS, before=before)], body)


def test_what_needs_another_is_stopped_before_it(tmp_path: Path) -> None:
    end = "signal.signal(signal.SIGTERM, lambda *_: (say({!r}), sys.exit(0))); ready(); signal.pause()"
    services = [
        child("database", end.format("database")),
        child("manager", end.format("manager"), needs=("database",)),
        child("page", end.format("page"), needs=("manager",)),
    ]
    place = supervise(tmp_path, services, nothing)
    assert place.said() == ["page", "manager", "database"]
    assert {service["state"] for service in place.status().values()} == {"stopped"}
    assert not any(service["ready"] for service in place.status().values())


def test_a_service_that_will_not_stop_is_killed_with_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_GRACE_S", 0.3)
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); pid = os.fork()\n"
        "if pid:\n say(str(pid)); ready()\n"
        "while True: time.sleep(60)"
    )
    place = supervise(tmp_path, [child("page", code)], nothing)
    pid = int(place.said()[0])
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_only_the_service_itself_can_say_that_it_is_ready(tmp_path: Path) -> None:
    code = "say(os.environ['NOTIFY_SOCKET']); until('go'); ready(); signal.pause()"

    async def body(place: Place) -> None:
        await place.until(place.said, "it has said where to")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"READY=1", "\0" + place.said()[0][1:])
            stranger.sendto(b"\xff\x00 no notification", "\0" + place.said()[0][1:])
        (tmp_path / "go").touch()
        await place.until(lambda: place.status()["page"]["ready"], "it is ready")
        assert place.status()["page"]["status"] == ""

    supervise(tmp_path, [child("page", code)], body, start=False)


def test_lines_of_services_are_kept_and_shown_without_steering_the_terminal(tmp_path: Path) -> None:
    code = "sys.stdout.buffer.write(b'a\\x1b[2Jb\\xff\\n' + b'no end'); sys.stdout.flush(); " + STAYS
    place = supervise(tmp_path, [child("page", code)], nothing)
    assert "page             a\\x1b[2Jb\ufffd\n" in place.terminal.getvalue()
    assert (tmp_path / "page.log").read_text() == "a\x1b[2Jb\ufffd\nno end\n"


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.log").mkdir()
    place = supervise(tmp_path, [child("page", "print('something', flush=True); " + STAYS)], nothing)
    assert "something" in place.terminal.getvalue()


ORPHAN = """
import asyncio, os, sys, pathlib
from tests.stack.test_supervisor import Place, STAYS, child
async def main():
    place = Place(pathlib.Path('.'), [child('page', STAYS), child('other', STAYS)])
    await place.supervisor.start()
    print('up', flush=True)
    await place.supervisor.wait()
asyncio.run(main())
"""


def test_no_child_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.kill()
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_child_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    command = launched([sys.executable, "-S", "-c", PRELUDE + "say('started')"])
    command[command.index("--parent") + 1] = "1"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the parent is gone" in done.stderr
    assert not (tmp_path / "said").exists()
