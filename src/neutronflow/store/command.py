"""``neutronflow database``: roles, schema and rights of the workflow database."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import psycopg

from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.store.dsn import ROLES, connection_parts, dsn
from neutronflow.store.roles import ensure_roles, grant
from neutronflow.store.schema import SchemaTooNew, SchemaTooOld
from neutronflow.store.settings import DatabaseSettings


class DatabaseUnreachable(NeutronflowError):
    """The database cannot be used: {detail}."""

    code = "database-unreachable"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument(
        "action",
        choices=["prepare", "migrate", "grant", "check"],
        help="prepare: roles, databases, schema and rights, all of it repeatable; migrate: the schema; grant: the rights; "
        "check: whether the schema is that of this version",
    )
    parser.add_argument("--plan", action="store_true", help="migrate: only say what would be done")


def run(args: argparse.Namespace) -> int:
    """Do it, as the superuser (roles) and the owner (schema)."""
    settings = load()
    try:
        if args.action == "prepare":
            own = settings.section("database", DatabaseSettings)
            passwords = {role: settings.secret(f"db-{role}") for role in ROLES}
            ensure_roles(dsn(settings, "superuser"), passwords, workflow=own.name, livedata=own.livedata_name)
        if args.action in ("prepare", "migrate", "check"):
            _migrate(settings, check=args.action == "check", plan=args.plan)
        if args.action in ("prepare", "grant"):
            grant(dsn(settings, "owner"))
    except psycopg.Error as error:
        raise DatabaseUnreachable(detail=str(error).strip()) from error
    return 0


def _migrate(settings: Settings, *, check: bool, plan: bool) -> None:
    connection = _django_connection(settings)
    from django.core.management import call_command
    from django.db.migrations.executor import MigrationExecutor
    from django.db.utils import OperationalError

    try:
        executor = MigrationExecutor(connection)
    except OperationalError as error:
        raise DatabaseUnreachable(detail=str(error).strip()) from error
    known = set(executor.loader.disk_migrations)
    newer = sorted(name for name in executor.loader.applied_migrations if name[0] == "store" and name not in known)
    if newer:
        raise SchemaTooNew(migration=".".join(newer[-1]))
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if check and missing:
        raise SchemaTooOld(count=len(missing))
    if not missing and not check:
        print("the schema is up to date", file=sys.stderr)
    for migration, _ in missing:
        print(f"{'would apply' if plan else 'applying'} {migration.app_label}.{migration.name}", file=sys.stderr)
    if missing and not (check or plan):
        call_command("migrate", verbosity=0, interactive=False)


def _django_connection(settings: Settings) -> Any:
    import django
    from django.conf import settings as django_settings
    from django.db import connections

    from neutronflow.store import django_settings as schema

    values = {name: getattr(schema, name) for name in dir(schema) if name.isupper()}
    values["DATABASES"] = {
        "default": {"ENGINE": "django.db.backends.postgresql", **connection_parts(settings, "owner")}
    }
    django_settings.configure(**values)
    django.setup()
    return connections["default"]
