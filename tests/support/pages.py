"""A web monitor with a database of its own, what a manager would write into it, and a browser's session."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support.ports import free_offset
from tests.support.services import Services

_SECRETS = (
    "django-monitor",
    "django-livedata",
    "django-catalog",
    "catalog-token",
    "livedata-tokens",
    "livedata-read-key",
    "livedata-upload-password",
    "service-token",
)


class Monitor(Services):
    """The monitor's place: rows go in as the manager and the listener write them."""

    def __init__(self, folder: Path, conninfo: str, **changes: str) -> None:
        secrets = {f"NEUTRONFLOW_SECRET_{name.upper().replace('-', '_')}": f"of {name}" for name in _SECRETS}
        super().__init__(folder, conninfo, NEUTRONFLOW_PORT_OFFSET=str(free_offset()), **secrets, **changes)
        self.conninfo = conninfo

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.settings.port('monitor')}{path}"

    def login_link(self) -> str:
        """A fresh link, as the command prints it."""
        words = [sys.executable, "-m", "neutronflow.cli", "monitor", "--login-link"]
        done = subprocess.run(words, env=self.environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    @contextlib.contextmanager
    def session(self) -> Iterator[httpx.Client]:
        """A client that has logged in by a link, as a browser does."""
        with httpx.Client(base_url=self.url(), timeout=20) as client:
            link = self.login_link()
            token = form_token(client.get(link).text)
            answer = client.post(link, data={"csrfmiddlewaretoken": token})
            assert answer.status_code == 302, answer.text
            yield client

    def program(self, path: str, **headers: str) -> httpx.Response:
        """Fetch with the service token."""
        return httpx.get(self.url(path), headers={"Authorization": "Bearer of service-token", **headers}, timeout=20)

    def run(self, number: int, instrument: str = "HYS", state: str = "complete", ago_s: float = 60, **more: Any) -> int:
        """A run with an experiment; returns its id."""
        facility = more.get("facility", "SNS")
        self.sql_do(
            "INSERT INTO instrument (facility, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", facility, instrument
        )
        self.sql_do(
            "INSERT INTO experiment (facility, name) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            facility,
            more.get("experiment", "IPTS-12345"),
        )
        ago = timedelta(seconds=ago_s)
        return int(
            self.sql(
                "INSERT INTO run (instrument_id, run_number, experiment_id, data_file, cycle, state, state_since, created_at)"
                " SELECT i.id, %s, e.id, %s, %s, %s, now() - %s / 2, now() - %s FROM instrument i, experiment e"
                " WHERE i.facility = %s AND i.name = %s AND e.facility = %s AND e.name = %s RETURNING id",
                number,
                more.get("data_file", f"{self.archive}/SNS/{instrument}/IPTS-12345/nexus/{instrument}_{number}.nxs.h5"),
                more.get("cycle", 1),
                state,
                ago,
                ago,
                facility,
                instrument,
                facility,
                more.get("experiment", "IPTS-12345"),
            )[0][0]
        )

    def told(self, instrument: str, ago_s: float = 0, facility: str = "SNS", **values: str) -> None:
        """Values that an instrument's dasmon has told, as the listener stores them."""
        self.sql_do(
            "INSERT INTO instrument (facility, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", facility, instrument
        )
        for key, value in values.items():
            self.sql_do(
                "INSERT INTO status_value (instrument_id, key, value, at) SELECT id, %s, %s, now() - %s FROM instrument"
                " WHERE facility = %s AND name = %s"
                " ON CONFLICT (instrument_id, key) DO UPDATE SET value = excluded.value, at = excluded.at",
                key,
                value,
                timedelta(seconds=ago_s),
                facility,
                instrument,
            )

    def pvs(self, instrument: str, *pvs: tuple[str, float | None, str | None, int], ago_s: float = 0) -> None:
        """Process variables (name, number, text, alarm status), as a dasmon stores them."""
        names, numbers, texts, statuses = (list(column) for column in zip(*pvs, strict=True))
        self.sql_do(
            "SELECT nf_store_pvs('SNS', %s, %s::text[], %s::float8[], %s::text[], %s::bigint[], array_fill("
            "extract(epoch FROM now())::float8 - %s, ARRAY[%s]))",
            instrument, names, numbers, texts, statuses, ago_s, len(names),
        )  # fmt: skip

    def step(self, run: int, name: str, state: str, attempt: int = 1, ago_s: float = 50, **more: Any) -> None:
        """An attempt of a step."""
        began = datetime.now().astimezone() - timedelta(seconds=ago_s)
        started = began + timedelta(seconds=2) if state in ("started", "complete", "failed") else None
        ended = began + timedelta(seconds=more.get("work_s", 8)) if state in ("complete", "failed", "skipped") else None
        self.sql_do(
            "INSERT INTO step (run_id, name, attempt, cycle, state, state_since, queued_at, started_at, ended_at, agent,"
            " error) VALUES (%s, %s, %s, 1, %s, %s, %s, %s, %s, %s, %s)",
            run,
            name,
            attempt,
            state,
            ended or started or began,
            None if state in ("waiting", "skipped") else began,
            started,
            ended,
            more.get("agent", "autoreducer1" if started else ""),
            more.get("error", ""),
        )

    def event(self, run: int, destination: str, outcome: str, **more: Any) -> None:
        """A line of the run's story."""
        self.sql_do(
            "INSERT INTO event (run_id, destination, applied, outcome, information, error, attempt)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            run,
            destination,
            more.get("applied", True),
            outcome,
            more.get("information", ""),
            more.get("error", ""),
            more.get("attempt", 1),
        )

    def report(self, run: int, step: str, log: str, files: list[Mapping[str, Any]] = [], **more: Any) -> int:  # noqa: B006
        """What an agent has told of an attempt; returns its id."""
        return int(
            self.sql(
                "INSERT INTO job_report (run_id, step, attempt, agent, started_at, ended_at, exit_code, max_rss_bytes,"
                " log, files) VALUES (%s, %s, %s, %s, now() - interval '8 s', now(), %s, 412000000, %s, %s) RETURNING id",
                run,
                step,
                more.get("attempt", 1),
                more.get("agent", "autoreducer1"),
                more.get("exit_code", 0),
                log,
                json.dumps(files),
            )[0][0]
        )

    def announce(self, number: int | None = None, kind: str = "run", instrument: str = "HYS") -> int:
        """Tell open pages, as the manager does; returns the change's id."""
        return int(self.sql("SELECT announce(%s, 'SNS', %s, %s)", kind, instrument, number)[0][0])

    def start_livedata(self) -> None:
        """A live data server with a database of its own."""
        database = str(conninfo_to_dict(self.conninfo)["dbname"])
        self.environ["NEUTRONFLOW_DATABASE__LIVEDATA_NAME"] = f"livedata_of_{database}"
        words = [sys.executable, "-m", "neutronflow.cli", "livedata", "--migrate"]
        subprocess.run(words, env=self.environ, check=True, capture_output=True)
        self.start("livedata")

    def upload_plot(self, number: int, html: str, instrument: str = "HYS") -> None:
        """Publish a plot as a script does."""
        where = (
            f"http://127.0.0.1:{self.settings.port('livedata')}/plots/{instrument.lower()}/{number}/upload_plot_data/"
        )
        form = {"username": "publisher", "password": "of livedata-upload-password", "data_type": "html"}
        answer = httpx.post(where, data=form, files={"file": ("plot.html", html.encode())}, timeout=20)
        assert answer.status_code == 200, answer.text

    def running(self) -> list[subprocess.Popen[bytes]]:
        """The processes that have not ended."""
        return [process for process in self._processes if process.poll() is None]

    def sql_do(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(statement.encode(), values)


def form_token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page
    return found[1]
