"""Named queries: each ``queries/<name>.sql`` holds one statement, described in its first comment line."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def query(name: str) -> bytes:
    """The text of a named query, as psycopg takes it."""
    return resources.files("neutronflow.store").joinpath("queries", f"{name}.sql").read_bytes()


def names() -> list[str]:
    """All named queries."""
    folder = resources.files("neutronflow.store").joinpath("queries")
    return sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
