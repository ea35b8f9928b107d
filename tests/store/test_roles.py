"""Each role may do what its service needs, and no more."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from neutronflow.store.dsn import dsn
from neutronflow.store.roles import grant
from tests.support.postgres import running_cluster
from tests.support.services import Services, services


@pytest.fixture
def database(tmp_path: Path, workflow_database: str) -> str:
    Services(tmp_path, workflow_database).prepare_roles()
    return workflow_database


def attempt(database: str, role: str, statement: str) -> str:
    """``done``, or the error of a statement in a role."""
    with psycopg.connect(make_conninfo(database, user=f"nf_{role}")) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            return type(error).__name__
        finally:
            connection.rollback()
    return "done"


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("manager", "INSERT INTO instrument (facility, name) VALUES ('SNS', 'HYS')"),
        ("manager", "SELECT announce('run', 'SNS', 'HYS', 1)"),
        ("manager", "DELETE FROM seen_message"),
        ("manager", "SELECT * FROM outbox FOR UPDATE SKIP LOCKED"),
        ("listener", "INSERT INTO service_status (name) VALUES ('x')"),
        ("listener", "SELECT announce('service', '', '', NULL)"),
        ("listener", "UPDATE run SET state = 'translating', state_since = now(), simulated = true"),
        ("listener", "INSERT INTO event (run_id, destination, applied) SELECT id, 'X', true FROM run"),
        ("listener", "SELECT nf_tell_instruments(ARRAY[]::bigint[])"),
        ("listener", "DELETE FROM pv_history"),
        ("monitor", "SELECT nf_remove_probe_run('SNS', 1)"),
        ("monitor", "SELECT * FROM job_report"),
        ("monitor", "INSERT INTO login_link (token_sha256, user_id, expires_at) SELECT 'x', id, now() FROM person"),
        ("monitor", "DELETE FROM django_session"),
        ("monitor", "UPDATE person SET last_login = now()"),
        ("catalog", "CREATE TABLE catalog.anything (id int)"),
    ],
)
def test_a_role_may_do_what_its_service_needs(database: str, role: str, statement: str) -> None:
    assert attempt(database, role, statement) == "done"


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("manager", "SELECT * FROM person"),
        ("manager", "DELETE FROM event"),
        ("manager", "SELECT * FROM dead_letter"),
        ("listener", "UPDATE run SET cycle = 1"),
        ("listener", "UPDATE run SET data_file = '/etc/passwd'"),
        ("listener", "INSERT INTO step (run_id, name, attempt, cycle, state) VALUES (1, 'reduce', 1, 1, 'queued')"),
        ("listener", "DELETE FROM event"),
        ("listener", "INSERT INTO pv (instrument_id, name, at) VALUES (1, 'x', now())"),
        ("listener", "SELECT nf_remove_probe_run('SNS', 1)"),
        ("listener", "SELECT * FROM person"),
        ("monitor", "UPDATE run SET state = 'complete'"),
        ("monitor", "INSERT INTO outbox (destination, nf_id, body) VALUES ('X', 'y', '')"),
        ("monitor", "DELETE FROM run"),
        ("monitor", "SELECT announce('run', 'SNS', 'HYS', 1)"),
        ("monitor", "SELECT nf_tell_instruments(ARRAY[]::bigint[])"),
        ("catalog", "SELECT * FROM run"),
        ("manager", "CREATE TABLE public.anything (id int)"),
    ],
)
def test_a_role_may_do_no_more(database: str, role: str, statement: str) -> None:
    assert attempt(database, role, statement) == "InsufficientPrivilege"


def test_dasmon_may_call_its_functions_and_nothing_else(database: str) -> None:
    with psycopg.connect(make_conninfo(database, user="nf_dasmon"), autocommit=True) as connection:
        connection.execute("SELECT nf_store_pvs('SNS', 'PG3', ARRAY['a'], ARRAY[1.5], NULL, ARRAY[0], ARRAY[0])")
        connection.execute("SELECT pvUpdate('PG3'::text, 'a', 1.5, 0, 17)")
        connection.execute("SELECT pvUpdate('a', 1.5, 0, 17)")
        connection.execute("SELECT pvStringUpdate('PG3'::text, 'b', 'text', 0, 17)")
        connection.execute("SELECT setInstrumentPVs('PG3'::text, ARRAY['a', 'b']::text[])")
    with psycopg.connect(database, autocommit=True) as connection:
        tables = [name for (name,) in connection.execute(
            "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )]  # fmt: skip
        functions = {name for (name,) in connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
            "AND has_function_privilege('nf_dasmon', oid, 'EXECUTE')"
        )}  # fmt: skip
    assert len(tables) > 20
    assert functions == {"nf_store_pvs", "pvupdate", "pvstringupdate", "setinstrumentpvs"}
    forbidden = [
        *(f"SELECT count(*) FROM {name}" for name in tables),
        *(f"DELETE FROM {name}" for name in tables),
        *(f"INSERT INTO {name} DEFAULT VALUES" for name in tables),
        "CREATE TABLE anything (id int)",
        "CREATE TEMP TABLE anything (id int)",
        "CREATE SCHEMA anything",
        "CREATE FUNCTION announce(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT nextval('pv_id_seq')",
        "SELECT announce('run', 'SNS', 'HYS', 1)",
        "SELECT nf_remove_probe_run('SNS', 1)",
        "SELECT nf_instrument('SNS', 'NEW')",
        "SELECT nf_put_pvs(1, ARRAY['x'], NULL, NULL, NULL, NULL, NULL, NULL)",
        "SET ROLE nf_owner",
        "COPY change TO '/x'",
    ]
    assert {statement: outcome for statement in forbidden
            if (outcome := attempt(database, "dasmon", statement)) != "InsufficientPrivilege"} == {}  # fmt: skip


def test_functions_with_the_owners_rights_have_a_fixed_search_path(database: str) -> None:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT proname, proconfig FROM pg_proc WHERE prosecdef").fetchall()
    assert {name for name, _ in found} >= {"pvupdate", "nf_store_pvs", "nf_remove_probe_run"}
    assert {tuple(config) for _, config in found} == {("search_path=public, pg_temp",)}


def test_a_database_that_is_prepared_gives_dasmon_a_login(tmp_path: Path) -> None:
    with (
        running_cluster() as server,
        services(tmp_path, server.conninfo("neutronflow"), NEUTRONFLOW_SECRET_DB_SUPERUSER="trusted") as place,
    ):
        assert place.run("database", "prepare").returncode == 0
        with psycopg.connect(dsn(place.settings, "dasmon"), autocommit=True) as connection:
            connection.execute("SELECT nf_store_pvs('SNS', 'PG3', ARRAY['a'], ARRAY[1.5], NULL, ARRAY[0], ARRAY[0])")
        assert place.sql("SELECT facility, instrument.name, pv.name, number FROM pv JOIN instrument "
                         "ON instrument.id = instrument_id") == [("SNS", "PG3", "a", 1.5)]  # fmt: skip
        owners = place.sql("SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE prosecdef")
        assert owners == [("nf_owner",)]


def test_rights_can_be_given_again(tmp_path: Path, database: str) -> None:
    Services(tmp_path, database).prepare_roles()
    grant(database)
    assert attempt(database, "manager", "SELECT * FROM run") == "done"


def test_a_role_of_the_workflow_cannot_enter_the_live_data_database(database: str) -> None:
    name = f"livedata_of_{conninfo_to_dict(database)['dbname']}"
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(make_conninfo(database, user="nf_manager", dbname=name))
