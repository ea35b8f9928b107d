"""The functions that store process variables, as dasmons call them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

VALUES = (
    "SELECT facility, instrument.name, pv.name, number, text, status, extract(epoch FROM at)::float8 FROM pv "
    "JOIN instrument ON instrument.id = instrument_id ORDER BY 1, 2, 3"
)


class Book:
    """A connection that calls, and looks at what is stored."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.connection = psycopg.connect(conninfo, autocommit=True)

    def do(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def one(self) -> tuple[Any, ...]:
        (row,) = self.do(VALUES)
        return row

    def store(self, instrument: str = "PG3", facility: str = "SNS", **columns: object) -> None:
        names = ("names", "numbers", "texts", "statuses", "times")
        self.do(
            "SELECT nf_store_pvs(%s, %s, %s::text[], %s::float8[], %s::text[], %s::bigint[], %s::float8[])",
            facility, instrument, *(columns.get(name) for name in names),
        )  # fmt: skip


@pytest.fixture
def book(workflow_database: str) -> Iterator[Book]:
    open_book = Book(workflow_database)
    yield open_book
    open_book.connection.close()


def known(book: Book, *instruments: tuple[str, str]) -> None:
    for facility, name in instruments:
        book.do("INSERT INTO instrument (facility, name) VALUES (%s, %s)", facility, name)


def test_the_calls_of_todays_dasmon_store_values_as_literal_sql(book: Book) -> None:
    known(book, ("SNS", "HYS"))
    book.do("select pvUpdate('hys'::text,'BL14B:Mot:s1',1.25,0,1795393405)")
    book.do("select pvStringUpdate('HYS'::text,'BL14B:CS:Title','it''s text',3,1795393406)")
    book.do("select pvUpdate('HYS'::text,'BL14B:Count',7,0,1795393405)")
    book.do("select setInstrumentPVs('HYS'::text,ARRAY['BL14B:Count','BL14B:unknown']::text[])")
    assert book.do(VALUES) == [
        ("SNS", "HYS", "BL14B:CS:Title", None, "it's text", 3, 1795393406.0),
        ("SNS", "HYS", "BL14B:Count", 7.0, None, 0, 1795393405.0),
        ("SNS", "HYS", "BL14B:Mot:s1", 1.25, None, 0, 1795393405.0),
    ]
    assert book.do("SELECT name FROM monitored_pv ORDER BY 1") == [("BL14B:Count",), ("BL14B:unknown",)]
    assert book.do("SELECT number FROM pv_history ORDER BY 1") == [(1.25,), (7.0,)]


def test_names_and_types_of_the_arguments_are_those_of_today(book: Book) -> None:
    found = book.do(
        "SELECT proname, pg_get_function_arguments(oid) FROM pg_proc WHERE proname IN ('pvupdate', 'pvstringupdate',"
        " 'setinstrumentpvs') ORDER BY 1, 2"
    )
    varchar, rest = "character varying", "status bigint, update_time bigint"
    assert found == [
        ("pvstringupdate", f"instrument {varchar}, pv_name {varchar}, value {varchar}, {rest}"),
        ("pvupdate", f"instrument {varchar}, pv_name {varchar}, value double precision, {rest}"),
        ("pvupdate", f"pv_name {varchar}, value double precision, {rest}"),
        ("setinstrumentpvs", f"instrument {varchar}, pvs text[]"),
    ]


def test_an_older_value_does_not_replace_a_newer_one(book: Book) -> None:
    known(book, ("SNS", "HYS"))
    for value, when in ((2.0, 200), (1.0, 100), (3.0, 200)):
        book.do("SELECT pvUpdate('HYS', 'a', %s::float8, 0, %s::bigint)", value, when)
    assert book.one()[3] == 3.0
    book.store("HYS", names=["a", "a", "a"], numbers=[9.0, 11.0, 10.0], times=[150.0, 300.5, 250.0])
    assert book.one()[3:] == (11.0, None, 0, 300.5)


def test_a_variable_may_become_text_and_a_number_again(book: Book) -> None:
    book.store(names=["a"], numbers=[1.0], times=[100.0])
    book.store(names=["a"], numbers=[None], texts=["open"], times=[101.0])
    assert book.one()[3:5] == (None, "open")
    book.store(names=["a"], numbers=[2.0], texts=["closed"], times=[102.0])
    assert book.one()[3:5] == (2.0, "closed")
    assert book.do("SELECT number FROM pv_history ORDER BY at") == [(1.0,), (2.0,)]


def test_an_unknown_instrument_is_made_and_nothing_belongs_to_none(book: Book) -> None:
    book.do("SELECT pvUpdate('NEW', 'a', 1, 0, 100)")
    known(book, ("HFIR", "CG2"))
    book.do("SELECT pvUpdate('NEWER', 'a', 1, 0, 100)")
    assert book.do("SELECT facility, name FROM instrument ORDER BY id") == [
        ("SNS", "NEW"), ("HFIR", "CG2"), ("SNS", "NEWER"),
    ]  # fmt: skip
    assert [row[:2] for row in book.do(VALUES)] == [("SNS", "NEW"), ("SNS", "NEWER")]


def test_an_unknown_instrument_is_made_where_all_others_are(book: Book) -> None:
    known(book, ("HFIR", "CG2"))
    book.do("SELECT pvUpdate('cg3', 'a', 1, 0, 100)")
    assert book.one()[:2] == ("HFIR", "CG3")


def test_of_two_instruments_of_a_name_it_is_the_one_known_longest(book: Book) -> None:
    known(book, ("HFIR", "TWIN"), ("ALPHA", "TWIN"))
    book.do("SELECT pvUpdate('TWIN', 'a', 1, 0, 100)")
    assert book.one()[:2] == ("HFIR", "TWIN")


def test_the_older_form_finds_the_instrument_by_the_variable(book: Book) -> None:
    known(book, ("SNS", "HYS"), ("SNS", "SEQ"))
    book.do("SELECT pvUpdate('a', 1, 0, 100)")
    assert book.do(VALUES) == []
    book.do("SELECT pvUpdate('SEQ', 'a', 1, 0, 100)")
    book.do("SELECT pvUpdate('a', 2, 0, 101)")
    assert book.one()[1:4] == ("SEQ", "a", 2.0)


HOSTILE = (
    "SELECT pvUpdate('HYS', repeat('x', 5000), 1, 0, 100)",
    "SELECT pvUpdate('../etc', 'a', 1, 0, 100)",
    "SELECT pvUpdate('', 'a', 1, 0, 100)",
    "SELECT pvUpdate(NULL, 'a', 1, 0, 100)",
    "SELECT pvUpdate('HYS', NULL, 1, 0, 100)",
    "SELECT pvUpdate('HYS', '', 1, 0, 100)",
    "SELECT pvUpdate('HYS', 'nothing', NULL, NULL, NULL)",
    "SELECT pvUpdate('HYS', 'nan', 'NaN', 9223372036854775807, 100)",
    "SELECT pvUpdate('HYS', 'inf', '-Infinity', -1, -9223372036854775808)",
    "SELECT pvUpdate('HYS', 'far', 1, 0, 9223372036854775807)",
    "SELECT pvStringUpdate('HYS', 'long', repeat('y', 2000000), 0, 100)",
    "SELECT pvStringUpdate('HYS', 'no text', NULL, 0, 100)",
    "SELECT setInstrumentPVs('HYS', NULL)",
    "SELECT setInstrumentPVs('HYS', ARRAY[NULL, '', repeat('z', 3000), 'a', 'a'])",
    "SELECT setInstrumentPVs('../etc', ARRAY['a'])",
    "SELECT nf_store_pvs('SNS', 'HYS', NULL, NULL, NULL, NULL, NULL)",
    "SELECT nf_store_pvs('SNS', 'HYS', ARRAY['short', 'shorter'], ARRAY[1.0], NULL, NULL, ARRAY['NaN'::float8])",
    "SELECT nf_store_pvs('no facility', 'HYS', ARRAY['a'], ARRAY[1.0], NULL, NULL, NULL)",
)


@pytest.mark.parametrize("statement", HOSTILE)
def test_no_value_makes_an_error(book: Book, statement: str) -> None:
    known(book, ("SNS", "HYS"))
    book.do(statement)
    assert book.do("SELECT facility, name FROM instrument") == [("SNS", "HYS")]
    now = datetime.now(UTC).timestamp()
    assert all(len(name) <= 255 and 0 <= when <= now for *_, name, _, _, _, when in book.do(VALUES))


def test_long_names_stay_apart(book: Book) -> None:
    book.store(names=["x" * 300 + "a", "x" * 300 + "b"], numbers=[1.0, 2.0])
    assert sorted(row[3] for row in book.do(VALUES)) == [1.0, 2.0]


def test_a_time_in_the_future_does_not_keep_out_what_comes_later(book: Book) -> None:
    book.store(names=["a"], numbers=[1.0], times=[4e9])
    book.store(names=["a"], numbers=[2.0], times=[4e9])
    assert book.one()[3] == 2.0


def test_the_list_to_be_watched_is_replaced_as_a_whole(book: Book) -> None:
    known(book, ("SNS", "HYS"), ("SNS", "SEQ"))
    book.do("SELECT setInstrumentPVs('SEQ', ARRAY['s'])")
    for wanted in (["a", "b"], ["b", "c"], []):
        book.do("SELECT setInstrumentPVs('HYS', %s::text[])", wanted)
        listed = "SELECT m.name FROM monitored_pv m JOIN instrument i ON i.id = instrument_id WHERE i.name = 'HYS' ORDER BY 1"
        assert [name for (name,) in book.do(listed)] == wanted
    assert book.do("SELECT name FROM monitored_pv") == [("s",)]


def test_callers_at_once_lose_nothing_and_do_not_block_each_other(book: Book) -> None:
    """Eight dasmons store the same variables in different orders, of an instrument that nobody knows yet."""
    problems: list[psycopg.Error] = []
    names = [f"pv{number}" for number in range(50)]

    def call(turn: int) -> None:
        try:
            other = Book(book.conninfo)
            for again in range(20):
                order = names[turn:] + names[:turn] if again % 2 else names[::-1]
                other.store(names=order, numbers=[float(turn)] * 50, times=[float(100 * again + turn)] * 50)
                other.do("SELECT pvUpdate('PG3', %s::text, 1, 0, 1)", order[0])
            other.connection.close()
        except psycopg.Error as error:
            problems.append(error)

    threads = [threading.Thread(target=call, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert book.do("SELECT count(*), min(number), max(number) FROM pv") == [(50, 7.0, 7.0)]
    assert book.do("SELECT count(*) FROM instrument") == [(1,)]


def test_pages_are_told_once_and_then_once_in_two_seconds(book: Book) -> None:
    told = "SELECT facility, instrument FROM change WHERE kind = 'instrument'"
    for number in range(5):
        book.store(names=["a", "b"], numbers=[1.0, 2.0], times=[float(number)] * 2)
    assert book.do(told) == [("SNS", "PG3")]
    assert book.do("SELECT waits FROM instrument_told") == [(True,)]
    book.do("UPDATE instrument_told SET at = at - interval '3 s'")
    book.store(names=["a"], numbers=[1.0], times=[9.0])
    assert book.do(told) == [("SNS", "PG3")] * 2
    assert book.do("SELECT waits FROM instrument_told") == [(False,)]


def test_units_and_severity_are_kept_where_they_are_told(book: Book) -> None:
    call = "SELECT nf_store_pvs('SNS', 'PG3', ARRAY['a'], ARRAY[1.0], NULL, ARRAY[3], ARRAY[%s]::float8[]"
    book.do(call + ", ARRAY['K'], ARRAY[2])", 1)
    book.do(call + ")", 2)
    assert book.do("SELECT units, status, severity FROM pv") == [("K", 3, None)]


def test_a_run_of_the_probe_is_removed_with_all_that_hangs_on_it(book: Book) -> None:
    known(book, ("SNS", "PROBE"), ("SNS", "HYS"))
    book.do("INSERT INTO run (instrument_id, run_number, state) SELECT id, 7, 'complete' FROM instrument")
    book.do("INSERT INTO step (run_id, name, attempt, cycle, state) SELECT id, 'reduce', 1, 1, 'complete' FROM run")
    book.do("INSERT INTO event (run_id, destination, applied) SELECT id, 'X', true FROM run")
    book.do(
        "INSERT INTO job_report (run_id, step, agent, started_at, ended_at) SELECT id, 'reduce', 'a', now(), now() FROM run"
    )
    book.do("SELECT announce('run', 'SNS', name, 7) FROM instrument")
    assert book.do("SELECT nf_remove_probe_run('SNS', 8)") == [(False,)]
    assert book.do("SELECT nf_remove_probe_run('HFIR', 7)") == [(False,)]
    assert book.do("SELECT nf_remove_probe_run('sns', 7)") == [(True,)]
    assert book.do("SELECT nf_remove_probe_run('SNS', 7)") == [(False,)]
    for table in ("run", "step", "event", "job_report", "change"):
        assert book.do(f"SELECT count(*) FROM {table}") == [(1,)], table
