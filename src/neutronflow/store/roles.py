"""Roles and rights: each service may do what it needs, and no more (decision 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from neutronflow.store.dsn import ROLES

#: role -> table -> rights, in the workflow database. ``monitor`` reads every table besides.
GRANTS: Mapping[str, Mapping[str, str]] = {
    "manager": {
        "django_migrations": "SELECT",
        **dict.fromkeys(("instrument", "experiment", "run", "step"), "SELECT, INSERT, UPDATE"),
        "event": "SELECT, INSERT",
        **dict.fromkeys(("seen_message", "change"), "SELECT, INSERT, DELETE"),
        # UPDATE is what FOR UPDATE asks for.
        "outbox": "SELECT, INSERT, UPDATE, DELETE",
        "dead_letter": "INSERT",
    },
    "listener": {
        "django_migrations": "SELECT",
        **dict.fromkeys(("instrument", "experiment"), "SELECT, INSERT"),
        # What the beamline says of a run before its first cycle.
        "run": "SELECT, INSERT, UPDATE (state, state_since, simulated, experiment_id)",
        "event": "INSERT",
        **dict.fromkeys(("service_status", "instrument_told"), "SELECT, INSERT, UPDATE"),
        **dict.fromkeys(("status_value", "status_history", "signal"), "SELECT, INSERT, UPDATE, DELETE"),
        "pv_history": "SELECT, DELETE",
        "job_report": "SELECT, INSERT",
        "dead_letter": "INSERT",
        "change": "SELECT, INSERT",
        "seen_message": "SELECT, INSERT",
    },
    "monitor": {
        **dict.fromkeys(
            (
                "person",
                "person_groups",
                "person_user_permissions",
                "auth_group",
                "auth_group_permissions",
                "login_link",
                "django_session",
            ),
            "SELECT, INSERT, UPDATE, DELETE",
        ),
    },
}

#: role -> functions it may call. All others call none of ours. ``dasmon`` has no other right (decision 6).
FUNCTIONS: Mapping[str, Sequence[str]] = {
    "manager": ("announce(text, text, text, bigint)",),
    "listener": ("announce(text, text, text, bigint)", "nf_tell_instruments(bigint[])"),
    "monitor": ("nf_remove_probe_run(text, bigint)",),
    "dasmon": (
        "pvupdate(varchar, varchar, float8, bigint, bigint)",
        "pvupdate(varchar, float8, bigint, bigint)",
        "pvstringupdate(varchar, varchar, varchar, bigint, bigint)",
        "setinstrumentpvs(varchar, text[])",
        "nf_store_pvs(text, text, text[], float8[], text[], bigint[], float8[], text[], bigint[])",
    ),
}


def ensure_roles(superuser_conninfo: str, passwords: Mapping[str, str], *, workflow: str, livedata: str) -> None:
    """Create what is missing: a role for each service with its password, and the two databases. Repeatable.

    ``passwords`` has one for each of :data:`~neutronflow.store.dsn.ROLES`.
    """
    with psycopg.connect(superuser_conninfo, autocommit=True) as connection:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            name = f"nf_{role}"
            verb = sql.SQL("ALTER" if name in known else "CREATE")
            statement = sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}")
            connection.execute(statement.format(verb, sql.Identifier(name), sql.Literal(passwords[role])))
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for database, owner in ((workflow, "nf_owner"), (livedata, "nf_livedata")):
            _ensure_database(connection, database, owner, databases)


def _ensure_database(
    connection: psycopg.Connection[tuple[str, ...]], database: str, owner: str, known: set[str]
) -> None:
    name, owned_by = sql.Identifier(database), sql.Identifier(owner)
    if database not in known:
        # An external server's administrator need not be a superuser; to give a database away it has to be in the role.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(owned_by))
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'")
        connection.execute(statement.format(name, owned_by))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    if owner == "nf_owner":
        for role in ("manager", "listener", "monitor", "catalog", "dasmon"):
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(f"nf_{role}")))


def grant(owner_conninfo: str) -> None:
    """Give each role its rights on the migrated workflow schema, and the catalog its own schema. Repeatable."""
    with psycopg.connect(owner_conninfo) as connection:
        for role, tables in GRANTS.items():
            name = sql.Identifier(f"nf_{role}")
            connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
            for table, rights in tables.items():
                statement = sql.SQL("GRANT {} ON {} TO {}")
                connection.execute(statement.format(sql.SQL(rights), sql.Identifier(table), name))
            connection.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))
        for role, functions in FUNCTIONS.items():
            name = sql.Identifier(f"nf_{role}")
            connection.execute(sql.SQL("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM {}").format(name))
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
            for function in functions:
                statement = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
                # The text is the one above, types and all.
                connection.execute(statement.format(sql.SQL(function), name))
        monitor = sql.Identifier("nf_monitor")
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(monitor))
        catalog = sql.Identifier("nf_catalog")
        connection.execute("CREATE SCHEMA IF NOT EXISTS catalog")
        connection.execute(sql.SQL("GRANT ALL ON SCHEMA catalog TO {}").format(catalog))
