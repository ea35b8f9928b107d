from __future__ import annotations

import re

import psycopg
import pytest

from neutronflow.store.named import names, query


@pytest.mark.parametrize("name", names())
def test_every_named_query_fits_the_schema(workflow_database: str, name: str) -> None:
    numbers: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = re.sub(r"%\((\w+)\)[sb]", numbered, query(name).decode())
    with psycopg.connect(workflow_database) as connection:
        connection.execute(f"PREPARE one AS {text}".encode())


@pytest.mark.parametrize("name", names())
def test_every_named_query_says_in_a_line_what_it_is_for(name: str) -> None:
    first = query(name).decode().splitlines()[0]
    assert re.fullmatch(r"-- [A-Z].*\.", first)
