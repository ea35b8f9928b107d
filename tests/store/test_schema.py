from __future__ import annotations

import psycopg
import pytest


def test_a_run_number_exists_once_per_instrument(workflow_database: str) -> None:
    with psycopg.connect(workflow_database, autocommit=True) as connection:
        connection.execute("INSERT INTO instrument (facility, name) VALUES ('SNS', 'HYS')")
        insert = "INSERT INTO run (instrument_id, run_number, state) SELECT id, 1001, 'acquiring' FROM instrument"
        connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)
