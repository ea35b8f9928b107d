"""The guard: the small process between an agent and a job's script. Standard library only; it is run by its path.

It exists because what a script leaves behind must never outlive the job, and a job must never outlive its agent:

* the kernel sends it SIGTERM when the agent dies (PR_SET_PDEATHSIG), however the agent dies;
* it is the subreaper of everything the script starts, so that also what has daemonized or changed its session is found;
* it enforces the time limit, writes the log (bounded) and measures CPU time and memory, while the agent may be busy.

Usage: ``guard.py <request as JSON>``; the request holds ``argv``, ``cwd``, ``log``, ``err`` (paths), ``time_limit_s``,
``grace_s``, ``max_log_bytes``, ``parent_pid`` and ``result_fd``. The result is one JSON object written to ``result_fd``.
The guard's own environment is the job's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TAIL_BYTES = 64 * 1024
_MAX_LINE = 64 * 1024
#: How long what was asked to end gets when the agent stops or has died.
_STOP_GRACE_S = 0.5
#: How long output is still read after the script's end, if something else holds its pipe open.
_DRAIN_S = 1.0


class Log:
    """A file of bounded size: what does not fit is counted, and its end is kept."""

    def __init__(self, path: str, limit: int) -> None:
        # Others may write into the folder: never follow a link that someone has put there, nor wait for a pipe's reader.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.file = os.fdopen(os.open(path, flags, 0o644), "wb", buffering=0)
        self.room = limit
        self.left_out = 0
        self.tail = b""

    def write(self, data: bytes) -> None:
        """Append what there is room for."""
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        part, rest = data[: self.room], data[self.room :]
        self.room -= len(part)
        self.left_out += len(rest)
        # A full disk must not end the job; that the log is incomplete shows in its size.
        with contextlib.suppress(OSError):
            self.file.write(part)

    def close(self) -> None:
        """Append the end of what did not fit, and close."""
        if self.left_out:
            shown = self.tail[-self.left_out :]
            note = f"\n... {self.left_out - len(shown)} bytes left out ...\n".encode()
            with contextlib.suppress(OSError):
                self.file.write(note + shown)
        self.file.close()


class Stream:
    """One of the script's output streams: whole lines go to the logs, so that both streams can share one."""

    def __init__(self, pipe: IO[bytes] | None, logs: list[Log]) -> None:
        if pipe is None:
            raise ValueError("the script was not started with pipes")
        self.pipe = pipe
        self.logs = logs
        self.partial = b""

    def read(self) -> bool:
        """Take what is there. Returns whether the stream is still open."""
        data = os.read(self.pipe.fileno(), 65536)
        self.partial += data
        lines, newline, rest = self.partial.rpartition(b"\n")
        if not data or len(rest) > _MAX_LINE:
            lines, newline, rest = self.partial, b"", b""
        self.partial = rest
        for log in self.logs:
            log.write(lines + newline)
        return bool(data)


def main() -> int:
    """Run one job and report."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    os.set_inheritable(request["result_fd"], False)
    _adopt(request["parent_pid"])
    try:
        result = run(request)
    except OSError as error:
        result = {"failed": f"{error.strerror}: {error.filename}"}
    _kill_descendants()
    _bury()
    with os.fdopen(request["result_fd"], "w") as out:
        json.dump(result, out)
    return 0


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run the script; returns exit code, signal, limit, seconds, CPU seconds and bytes."""
    wake = _signals()
    log, err = Log(request["log"], request["max_log_bytes"]), Log(request["err"], request["max_log_bytes"])
    begin = time.monotonic()
    try:
        script = _start(request)
    except OSError as error:
        err.write(f"Error: {request['argv'][0]} cannot be started: {error.strerror}\n".encode())
        log.write(err.tail)
        return _result(127, log, err, time.monotonic() - begin, reason="")
    streams = [Stream(script.stdout, [log]), Stream(script.stderr, [log, err])]
    reason = _watch(script, streams, wake, request, begin)
    elapsed = time.monotonic() - begin
    if reason:
        _terminate(request["grace_s"] if reason == "time-limit" else _STOP_GRACE_S)
    status = script.wait()
    _drain(streams)
    if reason == "time-limit":
        text = f"Time limit exceeded ({elapsed:.1f} s > {request['time_limit_s']:.1f} s). Terminating job.\n".encode()
        log.write(text)
        err.write(text)
    return _result(status, log, err, elapsed, reason)


def _start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    guard = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(127)

    return subprocess.Popen(
        request["argv"],
        cwd=request["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=before_exec,  # noqa: PLW1509 - the guard has one thread
    )


def _watch(
    script: subprocess.Popen[bytes], streams: list[Stream], wake: int, request: dict[str, Any], begin: float
) -> str:
    """Copy output until the script has ended (returns ""), the time is up ("time-limit") or a signal came ("stopped")."""
    deadline = begin + request["time_limit_s"]
    with selectors.DefaultSelector() as selector:
        selector.register(wake, selectors.EVENT_READ, None)
        for stream in streams:
            selector.register(stream.pipe, selectors.EVENT_READ, stream)
        while True:
            if script.poll() is not None:
                return ""
            left = deadline - time.monotonic()
            if left <= 0:
                return "time-limit"
            for key, _ in selector.select(left):
                if key.data is None:
                    if signal.SIGTERM in os.read(wake, 512):
                        return "stopped"
                elif not key.data.read():
                    selector.unregister(key.fileobj)


def _drain(streams: list[Stream]) -> None:
    """Take the output that is still in the pipes; leave a stream that something else holds open after a moment."""
    end = time.monotonic() + _DRAIN_S
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.pipe, selectors.EVENT_READ, stream)
        while selector.get_map() and time.monotonic() < end:
            ready = selector.select(0.02)
            if not ready and not _descendants():
                break
            if not ready:
                _signal_all(signal.SIGKILL)
            for key, _ in ready:
                if not key.data.read():
                    selector.unregister(key.fileobj)
    for stream in streams:
        for log in stream.logs:
            log.write(stream.partial)
        stream.pipe.close()


def _result(status: int, log: Log, err: Log, elapsed: float, reason: str) -> dict[str, Any]:
    log.close()
    err.close()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "exit_code": status if status >= 0 else None,
        "signal": -status if status < 0 else None,
        "reason": reason,
        "elapsed_s": elapsed,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
        # Six times as long in JSON at worst, and still within what a pipe holds: nobody reads before this process ends.
        "err_tail": err.tail[-8000:].decode("utf-8", "replace"),
    }


def _adopt(parent_pid: int) -> None:
    """Tie this process to the agent's life, and everything the script leaves behind to this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent_pid:  # the agent died before the line above could take effect
        sys.exit(1)


def _signals() -> int:
    """A file descriptor on which the numbers of SIGTERM and SIGCHLD arrive."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def _terminate(grace_s: float) -> None:
    """Ask everything below this process to end; kill what has not after ``grace_s``."""
    _signal_all(signal.SIGTERM)
    end = time.monotonic() + grace_s
    while _descendants() and time.monotonic() < end:
        time.sleep(0.02)
    _kill_descendants()


def _kill_descendants() -> None:
    # Again and again, as a fork may be under way; what cannot be killed (in the kernel) is not waited for.
    end = time.monotonic() + 2.0
    while _descendants() and time.monotonic() < end:
        _signal_all(signal.SIGKILL)
        time.sleep(0.01)


def _signal_all(number: int) -> None:
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _bury() -> None:
    """Reap what was adopted (the script itself has been waited for)."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants() -> list[int]:
    """All living processes below this one (zombies do not count)."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", entry, "stat").read_bytes()
                state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
                if state not in b"ZX":
                    children.setdefault(int(parent), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


if __name__ == "__main__":
    sys.exit(main())
