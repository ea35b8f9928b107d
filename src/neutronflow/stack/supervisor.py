"""The supervisor: starts children in the order of their needs, waits for their readiness, starts again what ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.stack.errors import ServiceFailed
from neutronflow.stack.output import Output
from neutronflow.stack.services import Service

log = get_logger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
#: Having run for so long, a service starts again at once.
_PROVEN_S = 30.0
#: A service that ends so often before it was ever ready keeps the stack from starting.
_TRIES = 3
_GRACE_S = 8.0
_PROBE_EVERY_S = 0.1
#: A service with this exit code says that it cannot start at all, and why.
_CANNOT_START = 2


class Child:
    """One service, and its process while there is one."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.process: asyncio.subprocess.Process | None = None
        self.pid: int | None = None
        self.state = "waiting"
        self.status = ""
        self.since = time.time()
        self.restarts = 0
        self.ready = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=5)

    def as_json(self) -> dict[str, Any]:
        """What ``status`` shows."""
        return {
            "name": self.service.name,
            "pid": self.pid,
            "state": self.state,
            "ready": self.ready.is_set(),
            "restarts": self.restarts,
            "since": self.since,
            "status": self.status,
            "task": self.service.kind == "task",
        }


class Supervisor:
    """All children of one stack."""

    def __init__(
        self, services: Sequence[Service], output: Output, status_file: Path, environ: Mapping[str, str]
    ) -> None:
        self._children = {service.name: Child(service) for service in services}
        self._output = output
        self._status_file = status_file
        self._environ = dict(environ)
        self._stopping = False
        self._started = time.time()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._notify = _NotifySocket()

    async def start(self) -> None:
        """Start everything; returns when all are ready. Raises :class:`ServiceFailed` where one will not."""
        self._notify.listen(self._notified)
        self._tasks = {name: asyncio.create_task(self._keep(child)) for name, child in self._children.items()}
        ready = asyncio.gather(*(child.ready.wait() for child in self._children.values()))
        waiting: set[asyncio.Future[Any]] = {ready, *self._tasks.values()}
        try:
            while not ready.done():
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                waiting -= done
                for task in done:
                    if task is not ready and task.exception() is not None:
                        raise task.exception()  # type: ignore[misc]
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    async def wait(self) -> None:
        """Supervise until cancelled."""
        await asyncio.gather(*self._tasks.values())

    async def stop(self) -> None:
        """Stop everything in good order: those that need others first."""
        self._stopping = True
        for group in self._stop_order():
            await asyncio.gather(*(self._end(child) for child in group))
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._notify.close()
        self._write_status()

    def _stop_order(self) -> list[list[Child]]:
        """Groups, each to be stopped together: a child after all that need it."""
        left = dict(self._children)
        groups = []
        while left:
            needed = {need for child in left.values() for need in child.service.needs}
            group = [child for name, child in left.items() if name not in needed] or list(left.values())
            groups.append(group)
            for child in group:
                del left[child.service.name]
        return groups

    async def _end(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        child.state = "stopping"
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(child.service.stop_signal)
        try:
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
        except TimeoutError:
            log.warning("service_killed", service_name=child.service.name, after_s=_GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        child.ready.clear()
        self._set(child, "stopped")

    async def _keep(self, child: Child) -> None:
        """One service, for ever."""
        for need in child.service.needs:
            await self._children[need].ready.wait()
        pause, failures = _FIRST_PAUSE_S, 0
        was_ever_ready = False
        while not self._stopping:
            began = time.monotonic()
            try:
                code = await self._run(child)
            except (NeutronflowError, OSError) as error:
                # What has to be done before, or the start itself.
                child.last_lines.append(str(error))
                code = _CANNOT_START
            if child.service.kind == "task" and code == 0:
                self._set(child, "done")
                child.ready.set()
                return
            was_ever_ready |= child.ready.is_set()
            if self._is_stopping():
                break
            child.ready.clear()
            failures += 1
            if not was_ever_ready and (failures >= _TRIES or code == _CANNOT_START):
                raise ServiceFailed(
                    service=child.service.name,
                    detail=child.last_lines[-1] if child.last_lines else f"it ended with exit code {code}",
                    log=self._output.path(child.service.name),
                )
            if time.monotonic() - began > _PROVEN_S:
                pause = _FIRST_PAUSE_S
            child.restarts += 1
            self._set(child, "restarting", f"ended with {_how(code)}; again in {pause:.1f} s")
            log.warning("service_ended", service_name=child.service.name, how=_how(code), again_in_s=round(pause, 1))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _is_stopping(self) -> bool:
        return self._stopping

    async def _run(self, child: Child) -> int:
        """Start one process and stay until it ends."""
        service = child.service
        if service.before is not None:
            await asyncio.to_thread(service.before)
            if self._is_stopping():
                return _CANNOT_START
        environ = {**self._environ, **service.environment, "NOTIFY_SOCKET": self._notify.address}
        # In a session of its own: Ctrl-C at the terminal is for the supervisor, which stops things in order.
        child.process = await asyncio.create_subprocess_exec(
            *service.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
        child.pid = child.process.pid
        self._set(child, "starting")
        probing = asyncio.create_task(self._probe(child)) if service.probe else None
        copying = asyncio.create_task(self._copy_output(child))
        try:
            code = await child.process.wait()
            # Something it has started may hold the pipe open for longer than it lived.
            await asyncio.wait({copying}, timeout=1.0)
            return code
        finally:
            copying.cancel()
            if probing is not None:
                probing.cancel()
            child.pid = None

    async def _probe(self, child: Child) -> None:
        probe = child.service.probe or (lambda: True)
        while not await asyncio.to_thread(probe):  # noqa: ASYNC110 - another process's state has no event of ours
            await asyncio.sleep(_PROBE_EVERY_S)
        self._set(child, "ready")
        child.ready.set()
        self._write_status()

    def _notified(self, pid: int, state: Mapping[str, str]) -> None:
        """A child has said something on the notification socket."""
        child = next((one for one in self._children.values() if one.pid == pid), None)
        if child is None:
            return
        child.status = state.get("STATUS", child.status)[:200]
        if state.get("READY") == "1" and not child.ready.is_set():
            self._set(child, "ready", child.status)
            child.ready.set()
        self._write_status()

    async def _copy_output(self, child: Child) -> None:
        assert child.process is not None  # noqa: S101 - the caller has started it
        stream = child.process.stdout
        assert stream is not None  # noqa: S101 - it was asked for
        rest = b""
        while data := await stream.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > 1 << 16:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take_line(child, line)
        if rest:
            self._take_line(child, rest)

    def _take_line(self, child: Child, line: bytes) -> None:
        text = line.decode(errors="replace")
        if text.strip():
            child.last_lines.append(text.strip()[:500])
        self._output.line(child.service.name, text)

    def _set(self, child: Child, state: str, status: str = "") -> None:
        child.state, child.status, child.since = state, status, time.time()
        self._write_status()

    def _write_status(self) -> None:
        told = {
            "pid": os.getpid(),
            "started": self._started,
            "services": [child.as_json() for child in self._children.values()],
        }
        partial = self._status_file.with_suffix(".part")
        with contextlib.suppress(OSError):  # a full disk must not end the supervisor
            partial.write_text(json.dumps(told))
            partial.replace(self._status_file)


class _NotifySocket:
    """systemd's notification protocol, the receiving side; senders are known by their credentials."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")  # the kernel gives an abstract address
        name = self._socket.getsockname()
        self.address = "@" + (name[1:].decode() if isinstance(name, bytes) else name[1:])

    def listen(self, notified: Any) -> None:
        """Call back with (pid, fields) for each notification."""

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
                fields = dict(line.split("=", 1) for line in data.decode(errors="replace").split("\n") if "=" in line)
                for level, kind, credentials in ancillary:
                    if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                        notified(struct.unpack("3i", credentials[:12])[0], fields)

        asyncio.get_running_loop().add_reader(self._socket, readable)

    def close(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
