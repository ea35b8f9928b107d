"""``neutronflow monitor``: the web monitor as a process, and links that log in."""

from __future__ import annotations

import argparse
import getpass
import logging
import sys

from neutronflow.foundation.service import begin
from neutronflow.web.serving import DATABASE_WITHIN_S, LimitedBody, await_database, prepare_django, serve

#: No form is longer.
_MAX_BODY_BYTES = 1 << 18


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--login-link", action="store_true", help="print a link that logs in once, and end")
    parser.add_argument(
        "--set-password", action="store_true", help="read a password (asked for, or from a pipe) and set it"
    )
    parser.add_argument(
        "--user", default="admin", help="whose link or password (default admin, who is made when missing)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, or let someone in."""
    settings = begin("monitor")
    # One line for each request to another service says nothing.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    prepare_django("neutronflow.web.monitor.settings")
    at_hand = args.login_link or args.set_password
    if at_hand:
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # the error itself says it all
    await_database(1.0 if at_hand else DATABASE_WITHIN_S)
    if args.login_link:
        from neutronflow.web.monitor.links import make_login_link

        print(make_login_link(args.user))
        return 0
    if args.set_password:
        from neutronflow.web.monitor.links import set_password

        set_password(args.user, getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n"))
        return 0
    from django.core.asgi import get_asgi_application

    from neutronflow.web.monitor.assets import with_assets

    return serve(LimitedBody(with_assets(get_asgi_application()), _MAX_BODY_BYTES), settings, "monitor")
