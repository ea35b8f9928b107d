"""``neutronflow monitor``: the web monitor as a process, and links that log in."""

from __future__ import annotations

import argparse

from neutronflow.foundation.config import load
from neutronflow.foundation.telemetry import configure_logging
from neutronflow.web.serving import LimitedBody, await_database, prepare_django, serve

#: No form is longer.
_MAX_BODY_BYTES = 1 << 18


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--login-link", action="store_true", help="print a link that logs in once, and end")
    parser.add_argument("--user", default="admin", help="whom the link logs in (admin is made when missing)")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, or print a login link."""
    settings = load()
    configure_logging("monitor", level=settings.core.log_level, fmt=settings.core.log_format)
    prepare_django("neutronflow.web.monitor.settings")
    await_database()
    if args.login_link:
        from neutronflow.web.monitor.links import make_login_link

        print(make_login_link(args.user))
        return 0
    from django.core.asgi import get_asgi_application

    from neutronflow.web.monitor.assets import with_assets

    return serve(LimitedBody(with_assets(get_asgi_application()), _MAX_BODY_BYTES), settings, "monitor")
