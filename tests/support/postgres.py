"""A real PostgreSQL for the tests: one cluster a session (fsync off), one fresh database a caller, copied from a template."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from neutronflow.stack.errors import PostgresMissing
from neutronflow.stack.postgres import launched, programs

#: Whom PostgreSQL runs as when the tests run as root, which PostgreSQL refuses: nobody.
_UNPRIVILEGED = 65534


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries() -> Path:
    """The folder of PostgreSQL's programs."""
    try:
        return programs()
    except PostgresMissing as error:
        pytest.skip(str(error))


class Cluster:
    """A running PostgreSQL with a superuser ``postgres`` and trust authentication on loopback."""

    def __init__(self, folder: Path, port: int, command: list[str]) -> None:
        self.folder = folder
        self.port = port
        self._command = command
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.conninfo()).close()
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server: SIGQUIT at once, as in a crash; SIGINT in good order."""
        assert self._server is not None
        self._server.send_signal(how)
        self._server.wait(timeout=20)

    def conninfo(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} dbname={database} user={user}"

    def create_database(self, name: str, template: str = "template0") -> str:
        """Create a database and return its conninfo."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return self.conninfo(name)


@contextlib.contextmanager
def running_cluster(**changes: str) -> Iterator[Cluster]:
    """Start a cluster in a folder of its own, with these settings changed; stop and remove it afterwards."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="nf-pg-"))
    options_of_start: list[str] = []
    if os.geteuid() == 0:
        os.chown(folder, _UNPRIVILEGED, _UNPRIVILEGED)
        # The checkout may lie in a home that is closed to others.
        options_of_start = ["--user", f"{_UNPRIVILEGED}:{_UNPRIVILEGED}", "--keep-search"]
    port = free_port()
    data = folder / "data"
    init = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(launched([*init, "--no-sync"], *options_of_start), check=True, stdout=subprocess.DEVNULL, cwd=folder)
    options = {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "unix_socket_directories": str(folder),
    }
    flags = [part for name, value in {**options, **changes}.items() for part in ("-c", f"{name}={value}")]
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", *flags]
    cluster = Cluster(folder, port, launched(command, *options_of_start))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def migrate(cluster: Cluster, database: str) -> None:
    """Give a database the workflow schema."""
    script = (
        "import django; from django.conf import settings; from neutronflow.store import django_settings as s;"
        "values = {k: getattr(s, k) for k in dir(s) if k.isupper()};"
        f"where = dict(NAME={database!r}, HOST='127.0.0.1', PORT={cluster.port}, USER='postgres');"
        "values['DATABASES']['default'].update(where);"
        "settings.configure(**values); django.setup();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
