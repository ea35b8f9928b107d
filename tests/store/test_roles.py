"""Each role may do what its service needs, and no more."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from neutronflow.store.roles import grant
from tests.support.services import Services


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
        ("listener", "UPDATE run SET state = 'complete'"),
        ("listener", "INSERT INTO event (run_id, destination, applied) VALUES (1, 'X', true)"),
        ("listener", "SELECT * FROM person"),
        ("monitor", "UPDATE run SET state = 'complete'"),
        ("monitor", "INSERT INTO outbox (destination, nf_id, body) VALUES ('X', 'y', '')"),
        ("catalog", "SELECT * FROM run"),
        ("manager", "CREATE TABLE public.anything (id int)"),
    ],
)
def test_a_role_may_do_no_more(database: str, role: str, statement: str) -> None:
    assert attempt(database, role, statement) == "InsufficientPrivilege"


def test_rights_can_be_given_again(tmp_path: Path, database: str) -> None:
    Services(tmp_path, database).prepare_roles()
    grant(database)
    assert attempt(database, "manager", "SELECT * FROM run") == "done"


def test_a_role_of_the_workflow_cannot_enter_the_live_data_database(database: str) -> None:
    name = f"livedata_of_{conninfo_to_dict(database)['dbname']}"
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(make_conninfo(database, user="nf_manager", dbname=name))
