"""Has NeXus files read by a process of its own (:mod:`neutronflow.web.catalog.nexusreader`), which may fail at it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, cast

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

_MAX_ANSWER_BYTES = 4 * 2**20


class UnreadableFile(NeutronflowError):
    """The file {path} is no NeXus file that can be read: {detail}."""

    code = "unreadable-file"


class ReadingTooSlow(NeutronflowError):
    """The file {path} could not be read within {seconds:g} s; try again later."""

    code = "reading-too-slow"


class Reader:
    """The reading process: started when needed, and again when it has died or had to be ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def read(self, path: Path, timeout_s: float) -> dict[str, Any]:
        """``{"entry": {...}}``: what a file says of itself. Raises :class:`UnreadableFile` or :class:`ReadingTooSlow`."""
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            raise ReadingTooSlow(path=path, seconds=timeout_s)
        try:
            answer = json.loads(self._ask(path, deadline))
        except TimeoutError:
            log.warning("reader_ended", path=str(path), detail=f"no answer within {timeout_s:g} s")
            self.end()
            raise ReadingTooSlow(path=path, seconds=timeout_s) from None
        except OSError as error:
            log.warning("reader_ended", path=str(path), detail=str(error))
            self.end()
            raise UnreadableFile(path=path, detail="reading it ended the reader") from error
        finally:
            self._lock.release()
        if "refused" in answer:
            raise UnreadableFile(path=path, detail=answer["refused"])
        found: dict[str, Any] = answer["metadata"]
        return found

    def end(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ask(self, path: Path, deadline: float) -> bytes:
        """One answer, a line. Raises TimeoutError, or OSError where the process has ended."""
        process = self._running()
        questions, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        questions.write(json.dumps(str(path)).encode() + b"\n")
        questions.flush()
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                part = os.read(answers.fileno(), 65536)
                if not part or len(answer) > _MAX_ANSWER_BYTES:
                    raise OSError(f"it ended with {process.poll()} after {len(answer)} bytes")
                answer += part
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.end()
        if self._process is None:
            environ = {name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_SECRET_")}
            environ |= {"OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PATH": "/nonexistent"}
            environ.pop("NOTIFY_SOCKET", None)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "neutronflow.web.catalog.nexusreader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environ,
            )
        return self._process


READER = Reader()


def read_metadata(path: Path, timeout_s: float) -> dict[str, Any]:
    """As :meth:`Reader.read`, by the one reader of this service."""
    return READER.read(path, timeout_s)
