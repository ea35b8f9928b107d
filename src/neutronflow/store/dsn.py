"""How each service reaches its database. Passwords come from secrets (``db-<role>``), never from the command line."""

from __future__ import annotations

from typing import TypedDict

from psycopg.conninfo import make_conninfo

from neutronflow.foundation.config import Settings
from neutronflow.store.settings import DatabaseSettings

#: The services' roles, each ``nf_<name>`` in the server.
ROLES = ("owner", "manager", "listener", "monitor", "catalog", "livedata", "dasmon")


class ConnectionParts(TypedDict):
    """What Django's DATABASES takes."""

    NAME: str
    HOST: str
    PORT: int
    USER: str
    PASSWORD: str


def connection_parts(settings: Settings, role: str) -> ConnectionParts:
    """The parts of a connection in a role of :data:`ROLES`, or ``superuser`` (to the maintenance database)."""
    own = settings.section("database", DatabaseSettings)
    name = {"livedata": own.livedata_name, "superuser": "postgres"}.get(role, own.name)
    return {
        "NAME": name,
        "HOST": own.host,
        "PORT": own.port if own.port is not None else settings.port("postgresql"),
        "USER": own.superuser if role == "superuser" else f"nf_{role}",
        "PASSWORD": settings.secret(f"db-{role}"),
    }


def dsn(settings: Settings, role: str, *, database: str | None = None) -> str:
    """A libpq conninfo in a role of :data:`ROLES` or ``superuser``."""
    parts = connection_parts(settings, role)
    return make_conninfo(
        dbname=database or parts["NAME"],
        host=parts["HOST"],
        port=parts["PORT"],
        user=parts["USER"],
        password=parts["PASSWORD"],
        sslmode=settings.section("database", DatabaseSettings).sslmode,
        connect_timeout=5,
        application_name=f"neutronflow {role}",
    )
