"""The catalog as a process: how it starts, ends, and lives through troubles of its database and its reader."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.support.postgres import Cluster, free_port
from tests.support.services import eventually
from tests.support.websites import Website, break_connections


def ingest(place: Website, path: Path) -> int:
    url = f"{place.url}/api/datafiles{quote(str(path))}/ingest"
    return place.http.post(url, headers=place.bearer("catalog-token")).status_code


@pytest.fixture
def place(catalog: Website, tmp_path: Path, cluster: Cluster) -> Iterator[Website]:
    """Another catalog on the same database, to be started and ended."""
    conninfo = cluster.conninfo(str(catalog.environ["NEUTRONFLOW_DATABASE__NAME"]))
    made = Website(tmp_path, conninfo, "catalog", NEUTRONFLOW_ARCHIVE_ROOT=str(catalog.archive))
    yield made
    made.end_all()


def reader_of(process: psutil.Process) -> psutil.Process:
    (reader,) = process.children()
    return reader


def test_health_is_told_without_a_token(catalog: Website) -> None:
    answer = catalog.get("/healthz", headers={})
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


def test_a_restart_of_the_database_is_not_felt(catalog: Website, cluster: Cluster, raw: Path) -> None:
    assert catalog.get("/api/datafiles").status_code == 200
    assert break_connections(cluster, "nf_catalog") > 0
    assert catalog.get("/api/datafiles").status_code == 200
    break_connections(cluster, "nf_catalog")
    assert ingest(catalog, raw) == 200


def test_a_reader_that_dies_is_replaced(place: Website, raw: Path) -> None:
    process = place.start("catalog")
    assert ingest(place, raw) == 200
    first = reader_of(psutil.Process(process.pid))
    first.kill()
    assert ingest(place, raw) in (200, 400)
    assert ingest(place, raw) == 200
    assert reader_of(psutil.Process(process.pid)).pid != first.pid


def test_a_reader_that_hangs_is_ended_and_the_client_told_to_come_back(place: Website, raw: Path) -> None:
    place.environ["NEUTRONFLOW_CATALOG__READ_TIMEOUT_S"] = "1"
    process = place.start("catalog")
    assert ingest(place, raw) == 200
    reader = reader_of(psutil.Process(process.pid))
    reader.suspend()
    assert ingest(place, raw) == 503
    assert ingest(place, raw) == 200
    assert not reader.is_running()


def test_a_reader_knows_no_secrets(place: Website, raw: Path) -> None:
    process = place.start("catalog")
    assert ingest(place, raw) == 200
    environ = reader_of(psutil.Process(process.pid)).environ()
    assert not [name for name in environ if "SECRET" in name]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_its_reader_ends_with_it(place: Website, raw: Path, how: signal.Signals) -> None:
    process = place.start("catalog")
    assert ingest(place, raw) == 200
    reader = reader_of(psutil.Process(process.pid))
    code = place.end(process, how)
    assert code == (0 if how == signal.SIGTERM else -signal.SIGKILL)
    eventually(lambda: not reader.is_running() or reader.status() == psutil.STATUS_ZOMBIE, "the reader has ended", 5)


def test_a_host_name_that_is_not_ours_is_refused(catalog: Website) -> None:
    assert catalog.get("/api/datafiles", headers={**catalog.bearer(), "Host": "evil.example"}).status_code == 400


def test_a_long_body_is_refused(catalog: Website, raw: Path) -> None:
    url = f"{catalog.url}/api/datafiles{quote(str(raw))}/ingest"
    answer = catalog.http.post(url, headers=catalog.bearer("catalog-token"), content=b"x" * 2**21)
    assert answer.status_code == 413


def test_migrating_again_changes_nothing(catalog: Website) -> None:
    assert "No migrations to apply" in catalog.command("--migrate").stderr


def test_its_tables_are_in_its_own_schema(catalog: Website) -> None:
    rows = catalog.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'catalog' ORDER BY 1")
    assert [name for (name,) in rows] == ["datafile", "django_migrations", "reduction"]


@pytest.mark.parametrize("secret", ["CATALOG_TOKEN", "SERVICE_TOKEN", "DJANGO_CATALOG", "DB_CATALOG"])
def test_without_a_secret_it_does_not_start(catalog: Website, secret: str) -> None:
    done = catalog.command(**{f"NEUTRONFLOW_SECRET_{secret}": None, "NEUTRONFLOW_PORT_OFFSET": str(free_port() - 8082)})
    assert done.returncode == 2
    assert secret.lower().replace("_", "-") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(catalog: Website) -> None:
    done = catalog.command()
    assert done.returncode == 2
    assert f"127.0.0.1:{catalog.settings.port('catalog')}" in done.stderr


def test_its_memory_stays_small(place: Website, raw: Path) -> None:
    process = place.start("catalog")
    for _ in range(20):
        assert ingest(place, raw) == 200
    family = [psutil.Process(process.pid), reader_of(psutil.Process(process.pid))]
    sizes = [member.memory_full_info().pss / 2**20 for member in family]
    assert sizes[0] < 75, sizes
    assert sum(sizes) < 120, sizes
