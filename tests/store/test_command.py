"""``neutronflow database`` against a server that knows nothing of us yet."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.postgres import Cluster
from tests.support.services import Services


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Services:
    folder = tmp_path_factory.mktemp("command")
    changes = {
        "NEUTRONFLOW_DATABASE__NAME": "made_by_command",
        "NEUTRONFLOW_DATABASE__LIVEDATA_NAME": "made_by_command_livedata",
        "NEUTRONFLOW_SECRET_DB_SUPERUSER": "trusted",
    }
    return Services(folder, cluster.conninfo(), **changes)


def database(place: Services, *words: str) -> subprocess.CompletedProcess[str]:
    return place.run("database", *words)


def test_prepare_makes_roles_databases_schema_and_rights_and_can_be_repeated(place: Services, cluster: Cluster) -> None:
    first = database(place, "prepare")
    assert first.returncode == 0, first.stderr
    assert "applying store.0001_initial" in first.stderr
    assert "applying sessions.0001_initial" in first.stderr
    again = database(place, "prepare")
    assert (again.returncode, again.stderr) == (0, "the schema is up to date\n")
    assert database(place, "check").returncode == 0
    with psycopg.connect(cluster.conninfo("made_by_command", "nf_manager")) as connection:
        assert connection.execute("SELECT * FROM run").fetchall() == []
    psycopg.connect(cluster.conninfo("made_by_command_livedata", "nf_livedata")).close()


def test_a_schema_that_is_newer_than_the_code_is_left_alone(place: Services, cluster: Cluster) -> None:
    assert database(place, "prepare").returncode == 0
    newer = "INSERT INTO django_migrations (app, name, applied) VALUES ('store', '9999_from_the_future', now())"
    with psycopg.connect(cluster.conninfo("made_by_command"), autocommit=True) as connection:
        connection.execute(newer)
        try:
            for action in ("migrate", "check", "prepare"):
                done = database(place, action)
                assert done.returncode == 2
                assert "made by a newer Neutronflow (it has store.9999_from_the_future)" in done.stderr
                assert "Traceback" not in done.stderr
        finally:
            connection.execute("DELETE FROM django_migrations WHERE name = '9999_from_the_future'")


def test_an_empty_database_is_told_what_it_lacks_and_a_plan_changes_nothing(place: Services, cluster: Cluster) -> None:
    assert database(place, "prepare").returncode == 0
    conninfo = cluster.create_database("still_empty")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("GRANT ALL ON SCHEMA public TO nf_owner")
    place = Services(place.archive.parent, make_conninfo(conninfo))
    check = database(place, "check")
    assert check.returncode == 2
    assert "lacks" in check.stderr
    plan = database(place, "migrate", "--plan")
    assert plan.returncode == 0
    assert "would apply store.0001_initial" in plan.stderr
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT 1 FROM pg_tables WHERE tablename = 'run'").fetchall() == []


def test_a_server_that_is_not_there_is_said_in_a_sentence(place: Services) -> None:
    done = database(Services(place.archive.parent, "host=127.0.0.1 port=1 dbname=none"), "check")
    assert done.returncode == 2
    assert done.stderr.startswith("neutronflow database: The database cannot be used: ")
