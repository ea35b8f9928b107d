"""The web services as real processes: their settings, databases and secrets, and ways to ask them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg

from neutronflow.foundation.config import PORTS
from neutronflow.foundation.tokens import mint
from neutronflow.store.dsn import ROLES
from neutronflow.store.roles import ensure_roles
from tests.support.postgres import Cluster, free_port
from tests.support.services import Services

SECRETS = (
    "django-catalog", "django-livedata", "catalog-token", "livedata-tokens", "livedata-read-key",
    "livedata-upload-password", "service-token",
)  # fmt: skip
_numbers = itertools.count()


class Website(Services):
    """One web service of a place."""

    def __init__(self, folder: Path, conninfo: str, service: str, **changes: str) -> None:
        values = {f"NEUTRONFLOW_SECRET_{name.upper().replace('-', '_')}": f"value of {name}" for name in SECRETS}
        values["NEUTRONFLOW_PORT_OFFSET"] = str(free_port() - PORTS[service])
        super().__init__(folder, conninfo, **{**values, **changes})
        self.service = service
        self.url = f"http://127.0.0.1:{self.settings.port(service)}"
        # One for all requests: each would otherwise read the certificates of the world.
        self.http = httpx.Client(timeout=20, trust_env=False)

    def command(self, *words: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Run the service's command to its end, with changes to its environment (None: without it)."""
        command = [sys.executable, "-m", "neutronflow.cli", self.service, *words]
        environ = {name: value for name, value in {**self.environ, **changes}.items() if value is not None}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    def end_all(self) -> None:
        super().end_all()
        self.http.close()

    def migrate(self) -> None:
        done = self.command("--migrate")
        assert done.returncode == 0, done.stderr

    def bearer(self, secret: str = "service-token") -> dict[str, str]:
        """The header that presents a secret as a token."""
        return {"Authorization": f"Bearer {self.settings.secret(secret)}"}

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET with the service token, unless other headers are given."""
        options.setdefault("headers", self.bearer())
        return self.http.get(self.url + path, **options)

    def raw(self, request: bytes, *, until_closed: bool = False) -> bytes:
        """Send bytes and return what comes back: all of it, or what the first read gives."""
        with socket.create_connection(("127.0.0.1", self.settings.port(self.service)), timeout=10) as connection:
            connection.sendall(request)
            if not until_closed:
                return connection.recv(65536)
            return b"".join(iter(lambda: connection.recv(65536), b""))


class PlotSite(Website):
    """A live data server, and what its clients do."""

    def __init__(self, folder: Path, conninfo: str, **changes: str) -> None:
        super().__init__(folder, conninfo, "livedata", **changes)

    def token(self, scope: str, lifetime_s: float = 60, **claims: str) -> dict[str, str]:
        """The header with a token signed by the place's secret."""
        return {"Authorization": f"Bearer {mint(self.settings.secret('livedata-tokens'), scope, claims, lifetime_s)}"}

    def upload_token(self, instrument: str, run: int | str) -> dict[str, str]:
        return self.token("plot-upload", facility="SNS", instrument=instrument, run=str(run), experiment="IPTS-1")

    def upload(
        self,
        instrument: str,
        run: int | str,
        content: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Publish a plot: with a token for its run, unless headers or a form with a login are given."""
        if headers is None:
            headers = {} if form and "username" in form else self.upload_token(instrument, run)
        url = f"{self.url}/plots/{instrument}/{run}/upload_plot_data/"
        return self.http.post(url, headers=dict(headers), files={"file": content}, data=dict(form or {}))

    def login(self, **changes: str) -> dict[str, str]:
        """The form login of today's publishers."""
        return {"username": "publisher", "password": self.settings.secret("livedata-upload-password"), **changes}

    def key(self, instrument: str, run: str) -> str:
        """The key with which today's monitor reads."""
        text = instrument.upper() + self.settings.secret("livedata-read-key") + run
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def plot_site(folder: Path, cluster: Cluster, **changes: str) -> Iterator[PlotSite]:
    """A live data server with a fresh, migrated database; not started."""
    number = next(_numbers)
    conninfo = cluster.create_database(f"plots_workflow_{number}")
    plots = f"plots_{number}"
    passwords = {role: f"of db-{role}" for role in ROLES}
    ensure_roles(conninfo, passwords, workflow=f"plots_workflow_{number}", livedata=plots)
    place = PlotSite(folder, conninfo, **{"NEUTRONFLOW_DATABASE__LIVEDATA_NAME": plots, **changes})
    place.migrate()
    try:
        yield place
    finally:
        place.end_all()


def break_connections(cluster: Cluster, role: str) -> int:
    """End all of a role's connections, as a restart of the server would; returns how many there were."""
    statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s"
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        row = connection.execute(statement, [role]).fetchone()
    assert row
    return int(row[0])
