"""The embedded PostgreSQL: set up, started, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from neutronflow.foundation.config import load
from neutronflow.stack import launch, postgres
from neutronflow.stack.errors import PostgresFailed, PostgresMissing
from neutronflow.stack.postgres import EmbeddedPostgres
from neutronflow.store.dsn import dsn
from tests.support.postgres import free_port

#: As it is; in this module the server's programs are copies in a closed home.
PROGRAMS = postgres.programs


def _until_it_answers(server: EmbeddedPostgres) -> None:
    deadline = time.monotonic() + 20
    while not server.answers():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Server:
    """One embedded server in a data directory that is closed to others."""

    def __init__(self, data_dir: Path) -> None:
        self.settings = load(
            {
                "NEUTRONFLOW_DATA_DIR": str(data_dir),
                "NEUTRONFLOW_DATABASE__PORT": str(free_port()),
                "NEUTRONFLOW_SECRET_DB_SUPERUSER": "long and secret",
            }
        )
        self.embedded = EmbeddedPostgres(self.settings)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.embedded.prepare()
        self.process = subprocess.Popen(self.embedded.command(), stderr=subprocess.DEVNULL)
        _until_it_answers(self.embedded)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=20)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(dsn(self.settings, "superuser"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with everything in a home that is closed to others: data, programs and libraries."""
    home = tmp_path_factory.mktemp("home")
    package = PROGRAMS().parents[1]
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, home / source.name, symlinks=True)
    there = home / PROGRAMS().relative_to(package.parent)
    home.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "programs", lambda: there)
        yield from _server_in(home)


def _server_in(home: Path) -> Iterator[Server]:
    server = Server(home / "var")
    yield server
    if server.process is not None:
        server.stop(signal.SIGQUIT)


@pytest.fixture
def server(made: Server) -> Iterator[Server]:
    made.start()
    yield made
    made.stop(signal.SIGQUIT)


def test_it_runs_in_a_home_that_is_closed_and_never_as_root(server: Server) -> None:
    assert server.process is not None
    assert psutil.Process(server.process.pid).uids().effective != 0
    assert server.embedded.folder.is_relative_to(server.settings.data_dir) != server.embedded.moved
    assert server.sql("SHOW fsync") == [("on",)]
    assert server.sql("SHOW listen_addresses") == [("127.0.0.1",)]
    assert server.sql("SHOW unix_socket_directories") == [("",)]


def test_it_wants_a_password(server: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"host=127.0.0.1 port={server.embedded.port} user=postgres password=wrong dbname=postgres")
    # ... which lies in no file of the server's, and in no process's arguments.
    assert not list(server.embedded.folder.glob("superuser-password"))
    assert not any("long and secret" in word for word in server.embedded.command())


def test_it_stops_at_once_although_clients_are_there(server: Server) -> None:
    with psycopg.connect(dsn(server.settings, "superuser")):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5


def test_what_was_committed_is_there_after_kill_9(server: Server) -> None:
    server.sql("CREATE TABLE IF NOT EXISTS kept (value int)")
    server.sql("INSERT INTO kept VALUES (7)")
    server.stop(signal.SIGKILL)
    server.start()
    assert server.sql("SELECT value FROM kept") == [(7,)]


@pytest.mark.parametrize("pid", ["own", "parent", "nonsense"])
def test_a_lock_file_that_names_another_process_hinders_nothing(server: Server, pid: str) -> None:
    server.stop(signal.SIGKILL)
    lock = server.embedded.folder / "data" / "postmaster.pid"
    lines = lock.read_text().split("\n")
    lines[0] = {"own": str(os.getpid()), "parent": str(os.getppid()), "nonsense": "x"}[pid]
    lock.write_text("\n".join(lines))
    server.start()


def test_a_server_that_was_left_over_is_stopped_first(server: Server) -> None:
    left = server.process
    server.embedded.prepare()
    assert left is not None
    assert left.wait(timeout=5) == 0
    server.start()


def test_one_that_does_not_end_keeps_its_lock(made: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made.start()
    made.stop(signal.SIGQUIT)
    data = made.embedded.folder / "data"
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", stubborn, str(data)], stdout=subprocess.PIPE) as left_over:
        assert left_over.stdout is not None
        left_over.stdout.readline()
        lock = data / "postmaster.pid"
        lock.write_text(f"{left_over.pid}\n")
        monkeypatch.setattr(postgres, "_LEFT_OVER_S", 0.5)
        try:
            with pytest.raises(PostgresFailed, match=f"process {left_over.pid}, left over"):
                made.embedded.prepare()
            assert lock.exists()
        finally:
            left_over.kill()
            lock.unlink(missing_ok=True)


def test_a_link_in_the_place_of_the_password_is_not_followed(tmp_path: Path) -> None:
    server = Server(tmp_path / "var")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    owner = victim.stat().st_uid
    server.embedded.folder.mkdir(parents=True)
    (server.embedded.folder / "superuser-password").symlink_to(victim)
    server.embedded.prepare()
    assert victim.read_text() == "precious"
    assert victim.stat().st_uid == owner
    shutil.rmtree(server.embedded.folder)


def test_it_ends_when_whoever_started_it_is_killed(made: Server) -> None:
    made.embedded.prepare()
    command = made.embedded.command()
    command[command.index("--parent") + 1] = "PARENT"
    script = (
        "import os, subprocess, sys, time; own = str(os.getpid());"
        "command = [own if word == 'PARENT' else word for word in sys.argv[1:]];"
        "print(subprocess.Popen(command).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        _until_it_answers(made.embedded)
        family = [server, *server.children()]
        starter.kill()
    _gone, alive = psutil.wait_procs(family, timeout=15)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_initdb_is_begun_again(tmp_path: Path) -> None:
    server = Server(tmp_path / "var")
    begun = server.embedded.folder / "data.part"
    begun.mkdir(parents=True)
    (begun / "PG_VERSION").write_text("18\n")
    server.embedded.prepare()
    assert server.embedded.exists
    assert not begun.exists()


def test_where_root_may_not_help_its_user_everything_lies_elsewhere(
    tmp_path: Path, made: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        assert made.embedded.moved is False
        return
    monkeypatch.setattr(launch, "permitted_search", lambda: None)
    with tempfile.TemporaryDirectory() as name:
        elsewhere = Path(name) / "neutronflow"
        Path(name).chmod(0o755)
        monkeypatch.setattr(postgres, "_ELSEWHERE", elsewhere)
        server = Server(tmp_path / "var")
        assert server.embedded.moved
        server.embedded.prepare()
        assert server.embedded.folder.parent == elsewhere
        command = server.embedded.command()
        command.remove("--keep-search")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            _until_it_answers(server.embedded)
            process.send_signal(signal.SIGINT)


def test_without_its_programs_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(postgres, "Path", lambda *_parts: tmp_path)
    with pytest.raises(PostgresMissing, match="pip install"):
        PROGRAMS()
