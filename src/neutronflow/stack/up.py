"""``neutronflow up``: everything on one machine, in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import psutil

import neutronflow
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.config import Settings
from neutronflow.foundation.service import begin
from neutronflow.foundation.telemetry import get_logger
from neutronflow.processing.agent.settings import AgentSettings
from neutronflow.processing.reduction.shipped import install_shipped_scripts
from neutronflow.stack.datadir import DataDirectory
from neutronflow.stack.errors import PortTaken, SimulatorRefused
from neutronflow.stack.output import Output
from neutronflow.stack.postgres import EmbeddedPostgres, launched
from neutronflow.stack.services import Service, stack_services
from neutronflow.stack.supervisor import Supervisor
from neutronflow.store.settings import DatabaseSettings

log = get_logger(__name__)

#: The maker of the login link gets no longer; the stack is up without it.
_LINK_WITHIN_S = 15.0
#: What the prepared databases depend on, below the package.
_SCHEMA_SOURCES = ("store/migrations", "store/roles.py", "web/catalog/migrations", "web/livedata/migrations")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--quiet", action="store_true", help="do not show the services' logs (they are in <data>/logs)")
    parser.add_argument(
        "--force-simulator",
        action="store_true",
        help="start the simulated beamline even with an external broker or catalog",
    )
    parser.add_argument("--check", action="store_true", help="only check whether everything could start")


def run(args: argparse.Namespace) -> int:
    """Start everything and stay until Ctrl-C or SIGTERM."""
    settings = begin("up")
    if not args.force_simulator:
        refuse_simulator(settings)
    data = DataDirectory(settings.data_dir)
    data.prepare()
    data.make_secrets()
    prepared = _prepared_mark(settings)
    services = stack_services(settings, prepared=prepared.exists() and _database_exists(settings))
    check_ports(settings, services)
    if args.check:
        print(f"{len(services)} processes can start on {settings.data_dir}")
        return 0
    settings.archive_root.mkdir(parents=True, exist_ok=True)
    install_shipped_scripts(known_facilities(settings))
    _say_where_postgresql_is(settings)
    return asyncio.run(_supervise(settings, data, services, prepared, quiet=args.quiet))


async def _supervise(
    settings: Settings, data: DataDirectory, services: list[Service], prepared: Path, *, quiet: bool
) -> int:
    output = Output(data.logs, quiet=quiet)
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "NEUTRONFLOW_DATA_DIR": str(settings.data_dir)}
    supervisor = Supervisor(services, output, data.status_file, environ)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    began = time.monotonic()
    starting = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            prepared.touch(mode=0o600)
            await _welcome(settings, time.monotonic() - began)
            supervising = asyncio.create_task(supervisor.wait())
            await asyncio.wait({supervising, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if supervising.done():
                supervising.result()
    finally:
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await starting
        log.info("stopping")
        await supervisor.stop()
        output.close()
    return 0


def refuse_simulator(settings: Settings) -> None:
    """Raise :class:`SimulatorRefused` where simulated runs would get to others."""
    if not settings.section("beamline", BeamlineSettings).simulated:
        return
    if settings.section("broker", BrokerSettings).external:
        raise SimulatorRefused(what="an external broker")
    catalog = settings.section("agent", AgentSettings).catalog_url
    if catalog is not None:
        raise SimulatorRefused(what=f"the external catalog {catalog}")


def check_ports(settings: Settings, services: list[Service]) -> None:
    """Raise :class:`PortTaken` for the first port that is in use."""
    for service in services:
        for port in service.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((settings.core.bind, port))
                except OSError as error:
                    raise PortTaken(service=service.name, port=port, by=_user_of(port)) from error


def _user_of(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def _prepared_mark(settings: Settings) -> Path:
    """A file that says that the databases of this data directory have this version's schema."""
    digest = hashlib.sha256()
    package = Path(neutronflow.__file__).parent
    for source in _SCHEMA_SOURCES:
        path = package / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    database = settings.section("database", DatabaseSettings)
    digest.update(f"{database.host}:{database.port}:{database.name}:{database.livedata_name}".encode())
    return settings.data_dir / "run" / f"prepared-{digest.hexdigest()[:16]}"


def _database_exists(settings: Settings) -> bool:
    """Whether there can be databases at all: whoever starts afresh may remove ours alone."""
    return settings.section("database", DatabaseSettings).external or EmbeddedPostgres(settings).exists


def _say_where_postgresql_is(settings: Settings) -> None:
    if settings.section("database", DatabaseSettings).external:
        return
    server = EmbeddedPostgres(settings)
    if server.moved:
        print(f"PostgreSQL cannot reach {settings.data_dir}; its files lie in {server.folder}.", file=sys.stderr)


def _own_name() -> str:
    """How this command is called here."""
    name = os.path.relpath(sys.argv[0])
    return name if Path(sys.argv[0]).name == "neutronflow" and shutil.which("neutronflow") is None else "neutronflow"


async def _welcome(settings: Settings, seconds: float) -> None:
    """Say where the page is, with a link that logs in once."""
    maker = await asyncio.create_subprocess_exec(
        *launched([sys.executable, "-m", "neutronflow.cli", "monitor", "--login-link"]),
        env={**os.environ, "NEUTRONFLOW_DATA_DIR": str(settings.data_dir)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_LINK_WITHIN_S):
            told, complaint = await maker.communicate()
        link = told.decode().strip() or f"(no login link: {complaint.decode().strip()})"
    except TimeoutError:
        maker.kill()
        await maker.wait()
        link = f"(`{_own_name()} monitor --login-link` makes a link)"
    print(
        f"\nNeutronflow is up ({seconds:.1f} s).\n"
        f"  page          http://{settings.core.bind}:{settings.port('monitor')}/\n"
        f"  log in once   {link}\n"
        f"  check it      {_own_name()} probe\n"
        f"  send a run    {_own_name()} replay tests/data/adara/small_sms_run1001.adara --speed 20\n"
        f"  stop          Ctrl-C\n",
        flush=True,
    )
