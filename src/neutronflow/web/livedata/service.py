"""``neutronflow livedata``: the live data server as a process."""

from __future__ import annotations

import argparse

from neutronflow.foundation.service import begin
from neutronflow.web.serving import LimitedBody, await_database, migrate, prepare_django, require_secrets, serve

#: What a form has besides its file.
_FORM_BYTES = 64 * 1024
_SECRETS = ("livedata-tokens", "livedata-read-key", "livedata-upload-password", "service-token")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--migrate", action="store_true", help="bring its database to this version's schema, and end")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    settings = begin("livedata")
    prepare_django("neutronflow.web.livedata.settings")
    require_secrets(settings, *_SECRETS)
    await_database()
    if args.migrate:
        return migrate()
    from django.core.asgi import get_asgi_application

    from neutronflow.web.livedata.access import refused_early
    from neutronflow.web.livedata.configuration import LivedataSettings

    own = settings.section("livedata", LivedataSettings)
    limit = own.max_upload_mb * 2**20 + _FORM_BYTES
    return serve(LimitedBody(get_asgi_application(), limit, refused_early), settings, "livedata")
