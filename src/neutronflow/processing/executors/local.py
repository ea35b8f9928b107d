"""Run a script as a process of this machine, under a guard (:mod:`neutronflow.processing.executors.guard`)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.processing.executors import guard

#: What a job may write into each of its log files.
MAX_LOG_BYTES = 64 * 1024 * 1024


class JobNotStarted(NeutronflowError):
    """The job could not be run: {detail}."""

    code = "job-not-started"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. ``environment`` is all that the job gets."""

    argv: Sequence[str]
    cwd: Path
    #: Both output streams, line by line.
    log: Path
    #: Standard error alone.
    err: Path
    environment: Mapping[str, str]
    time_limit_s: float
    #: Between asking everything to end and killing it, when the time is up.
    grace_s: float
    max_log_bytes: int = MAX_LOG_BYTES


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended. Times in seconds; ``max_rss_bytes`` is that of its largest process."""

    exit_code: int | None
    signal: int | None
    #: ``""`` when the script ended by itself, ``time-limit`` or ``stopped``.
    reason: str
    elapsed_s: float
    cpu_s: float
    max_rss_bytes: int
    #: The end of standard error.
    err_tail: str


class _Failed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    failed: str


async def run_job(spec: JobSpec) -> JobResult:
    """Run a job until it and everything it has started are gone.

    Cancelling ends the job: everything it has started is asked to end, killed half a second later, and then the
    cancellation goes on. Must be called from the main thread: the job's life is tied to the calling thread's.

    Raises :class:`JobNotStarted`.
    """
    reader, writer = os.pipe()
    try:
        process = _start_guard(spec, writer)
    except OSError as error:
        os.close(reader)
        raise JobNotStarted(detail=str(error)) from error
    finally:
        os.close(writer)
    try:
        await _ended(process)
    except asyncio.CancelledError:
        process.terminate()
        await asyncio.shield(_ended(process))
        raise
    finally:
        with os.fdopen(reader, "rb") as result:
            answer = result.read() if process.poll() is not None else b""
    return _decode(answer, process.returncode)


def _start_guard(spec: JobSpec, result_fd: int) -> subprocess.Popen[bytes]:
    request = {
        "argv": list(spec.argv),
        "cwd": os.fspath(spec.cwd),
        "log": os.fspath(spec.log),
        "err": os.fspath(spec.err),
        "time_limit_s": spec.time_limit_s,
        "grace_s": spec.grace_s,
        "max_log_bytes": spec.max_log_bytes,
        "parent_pid": os.getpid(),
        "result_fd": result_fd,
    }
    # Isolated and without site packages: the guard needs only the standard library, and starts in some milliseconds.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, json.dumps(request)],
        env=dict(spec.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(result_fd,),
        start_new_session=True,
    )


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child without a thread: its pidfd becomes readable when it has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()


def _decode(answer: bytes, code: int | None) -> JobResult:
    try:
        result = msgspec.json.decode(answer, type=JobResult)
    except msgspec.DecodeError:
        pass
    else:
        return result
    try:
        raise JobNotStarted(detail=msgspec.json.decode(answer, type=_Failed).failed)
    except msgspec.DecodeError as error:
        raise JobNotStarted(detail=f"its guard ended with {code}") from error
