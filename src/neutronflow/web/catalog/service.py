"""``neutronflow catalog``: the built-in catalog as a process."""

from __future__ import annotations

import argparse

from neutronflow.foundation.service import begin
from neutronflow.web.serving import LimitedBody, await_database, migrate, prepare_django, require_secrets, serve

_MAX_BODY_BYTES = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--migrate", action="store_true", help="bring its schema to this version's, and end")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    settings = begin("catalog")
    prepare_django("neutronflow.web.catalog.settings")
    require_secrets(settings, "catalog-token", "service-token")
    await_database()
    if args.migrate:
        return migrate()
    from django.core.asgi import get_asgi_application

    from neutronflow.web.catalog.metadata import READER

    try:
        return serve(LimitedBody(get_asgi_application(), _MAX_BODY_BYTES), settings, "catalog")
    finally:
        READER.end()
