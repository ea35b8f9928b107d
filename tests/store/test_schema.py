from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest


def test_a_run_number_exists_once_per_instrument(workflow_database: str) -> None:
    with psycopg.connect(workflow_database, autocommit=True) as connection:
        connection.execute("INSERT INTO instrument (facility, name) VALUES ('SNS', 'HYS')")
        insert = "INSERT INTO run (instrument_id, run_number, state) SELECT id, 1001, 'acquiring' FROM instrument"
        connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)


def test_no_index_is_made_needless_by_another(workflow_database: str) -> None:
    query = (
        "SELECT indexrelid::regclass::text, indrelid, indkey::int2[]::int[], indisunique FROM pg_index JOIN pg_class ON "
        "pg_class.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND relname IN "
        "('instrument', 'experiment', 'run', 'step', 'event', 'seen_message', 'outbox', 'change', 'job_report', "
        "'status_value', 'status_history', 'signal', 'pv', 'pv_history', 'monitored_pv', 'instrument_told')"
    )
    with psycopg.connect(workflow_database) as connection:
        indexes = connection.execute(query.encode()).fetchall()
    needless = [
        name
        for name, table, columns, unique in indexes
        for other_name, other_table, other, _ in indexes
        if table == other_table and name != other_name and not unique and other[: len(columns)] == columns
    ]
    assert needless == []


def test_the_models_are_those_of_the_migrations() -> None:
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DJANGO_SETTINGS_MODULE": "neutronflow.store.django_settings",
    }
    command = [sys.executable, "-W", "ignore", "-m", "django", "makemigrations", "--check", "--dry-run", "store"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
