"""Named queries: each ``queries/<name>.sql`` holds one statement, described in its first comment line."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources

from neutronflow.domain.facility import RunKey


@cache
def query(name: str) -> bytes:
    """The text of a named query, as psycopg takes it."""
    return resources.files("neutronflow.store").joinpath("queries", f"{name}.sql").read_bytes()


def run_columns(runs: Iterable[RunKey]) -> dict[str, list[object]]:
    """Run keys as the columns that queries over several runs unnest."""
    keys = list(runs)
    return {
        "facilities": [run.facility for run in keys],
        "instruments": [run.instrument for run in keys],
        "numbers": [run.run_number for run in keys],
    }


def names() -> list[str]:
    """All named queries."""
    folder = resources.files("neutronflow.store").joinpath("queries")
    return sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
