"""The data directory: everything the stack writes lies below it, closed to others."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import psutil

from neutronflow.stack.errors import AlreadyRunning, DataTooNew, DiskFull, NotADataDirectory

#: Format of the data directory. A newer one is never touched.
FORMAT = 1
_NEEDED_MB = 200
#: So long may children of a killed supervisor take to end.
_LEFTOVERS_S = 10.0

#: One random secret each, made once.
SECRETS = (
    "db-superuser", "db-owner", "db-manager", "db-listener", "db-monitor", "db-catalog", "db-livedata",
    "db-dasmon",
    "broker-manager", "broker-listener", "broker-agent", "broker-translator", "broker-stream", "broker-dasmon",
    "django-monitor", "django-catalog", "django-livedata",
    "catalog-token", "livedata-tokens", "livedata-read-key", "livedata-upload-password", "service-token",
    "run-control-token",
)  # fmt: skip


class DataDirectory:
    """The data directory of one stack, which only one supervisor holds at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def logs(self) -> Path:
        """One file a service."""
        return self.path / "logs"

    @property
    def status_file(self) -> Path:
        """What the supervisor says of its services."""
        return self.path / "run" / "status.json"

    def prepare(self) -> None:
        """Make it usable, or raise saying why it is not; nothing is changed then."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_format()
            self._check_space()
            self._take()
            self._await_leftovers()
            # What an earlier stack has said of its services is no longer so.
            self.status_file.unlink(missing_ok=True)
            # Made by someone with another umask, it may be open.
            self.path.chmod(0o700)
            for name in ("secrets", "logs", "run", "cache"):
                (self.path / name).mkdir(exist_ok=True, mode=0o700)
            self._write_format()
        except OSError as error:
            raise NotADataDirectory(path=self.path, detail=error.strerror or error) from error

    def make_secrets(self, names: Iterable[str] = SECRETS) -> None:
        """Make those that are missing."""
        for name in names:
            path = self.path / "secrets" / name
            if path.exists():
                continue
            partial = path.with_suffix(".part")
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
            partial.rename(path)

    def holder(self) -> int | None:
        """The process id of the supervisor that holds this directory, or None."""
        try:
            with (self.path / "run" / "up.lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(self.path / "run" / "up.lock")
        except OSError:
            return None
        return None

    def _take(self) -> None:
        (self.path / "run").mkdir(exist_ok=True, mode=0o700)
        lock = self.path / "run" / "up.lock"
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise AlreadyRunning(path=self.path, pid=_pid(lock) or "?") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._lock = handle

    def _await_leftovers(self) -> None:
        """Children of a killed supervisor end by themselves, but their ports are free only then."""
        left = []
        # Whatever the file holds, it is only for waiting.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            written = self.status_file.stat().st_mtime
            for service in json.loads(self.status_file.read_text())["services"]:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(service["pid"]) if service["pid"] else None
                    if process is not None and process.create_time() <= written:
                        left.append(process)
        psutil.wait_procs(left, timeout=_LEFTOVERS_S)

    def _check_format(self) -> None:
        version = self.path / "VERSION"
        if not version.exists():
            entries = {entry.name for entry in self.path.iterdir()}
            if entries - {"run", "secrets", "logs", "cache", "archive"}:
                raise NotADataDirectory(path=self.path, detail="it is not empty, and no data directory of ours")
            return
        text = version.read_text().strip()
        if not text.isdigit():
            raise NotADataDirectory(path=self.path, detail=f"its VERSION is {text[:20]!r}")
        if int(text) > FORMAT:
            raise DataTooNew(path=self.path, found=text, known=FORMAT)

    def _write_format(self) -> None:
        version = self.path / "VERSION"
        if version.exists() and version.read_text().strip() == str(FORMAT):
            return
        # An empty one, of a start that was cut short, would make the directory unusable.
        partial = self.path / "run" / "VERSION.part"
        partial.write_text(f"{FORMAT}\n")
        partial.replace(version)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path).free // 2**20
        if free < _NEEDED_MB:
            raise DiskFull(path=self.path, free=free, needed=_NEEDED_MB)


def _pid(lock: Path) -> int | None:
    text = lock.read_text().strip()
    return int(text) if text.isdigit() else None
