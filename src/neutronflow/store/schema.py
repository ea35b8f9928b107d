"""Whether the workflow database has the schema of this version: asked by each service before it touches anything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.store.connection import Connection
from neutronflow.store.named import query


class SchemaTooNew(NeutronflowError):
    """The workflow database was made by a newer Neutronflow (it has {migration}); this one must not touch it."""

    code = "schema-too-new"


class SchemaTooOld(NeutronflowError):
    """The workflow database lacks {count} migrations; run `neutronflow database prepare`."""

    code = "schema-too-old"


def known_migrations() -> frozenset[str]:
    """The migrations of the store that this version has."""
    names = (entry.name for entry in resources.files("neutronflow.store").joinpath("migrations").iterdir())
    return frozenset(name.removesuffix(".py") for name in names if re.fullmatch(r"\d{4}_\w+\.py", name))


def compare(applied: Iterable[str]) -> None:
    """Raise :class:`SchemaTooNew` or :class:`SchemaTooOld` where these are not the migrations of this version."""
    applied, known = set(applied), known_migrations()
    if newer := sorted(applied - known):
        raise SchemaTooNew(migration=f"store.{newer[-1]}")
    if missing := known - applied:
        raise SchemaTooOld(count=len(missing))


async def check_schema(connection: Connection) -> None:
    """Raise :class:`SchemaTooNew` or :class:`SchemaTooOld` where the database is not that of this version."""
    cursor = await connection.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
    if await cursor.fetchone() != (True,):
        compare(())
    cursor = await connection.execute(query("applied_migrations"))
    compare([str(row[0]) for row in await cursor.fetchall()])
