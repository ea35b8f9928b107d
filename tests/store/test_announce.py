from __future__ import annotations

import threading

import psycopg


def test_a_change_is_told_to_whoever_listens_with_its_id(workflow_database: str) -> None:
    with (
        psycopg.connect(workflow_database, autocommit=True) as reader,
        psycopg.connect(workflow_database, autocommit=True) as writer,
    ):
        reader.execute("LISTEN neutronflow_changes")
        (given,) = writer.execute("SELECT announce('run', 'SNS', 'HYS', 1001)").fetchone() or ()
        notice = next(reader.notifies(timeout=10))
        assert notice.payload == str(given)
        row = reader.execute(
            "SELECT kind, facility, instrument, run_number FROM change WHERE id = %s", [given]
        ).fetchone()
        assert row == ("run", "SNS", "HYS", 1001)


def test_ids_become_visible_in_the_order_in_which_they_were_given(workflow_database: str) -> None:
    with psycopg.connect(workflow_database) as slow, psycopg.connect(workflow_database, autocommit=True) as other:
        (first,) = slow.execute("SELECT announce('run', 'SNS', 'HYS', 1)").fetchone() or ()
        got: list[int] = []

        def announce() -> None:
            row = other.execute("SELECT announce('run', 'SNS', 'HYS', 2)").fetchone()
            got.extend(row or ())

        thread = threading.Thread(target=announce)
        thread.start()
        with psycopg.connect(workflow_database, autocommit=True) as watcher:
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while watcher.execute(waiting).fetchone() is None:
                pass
            assert watcher.execute("SELECT id FROM change").fetchall() == []
            slow.commit()
            thread.join()
            assert watcher.execute("SELECT id FROM change ORDER BY id").fetchall() == [(first,), (got[0],)]
        assert got[0] > first
