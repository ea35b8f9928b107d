"""What the three web services share: their database, how they are served, tokens, and limits before Django sees a request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hmac
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Any, TypeAlias

import uvicorn

from neutronflow.foundation.config import Settings
from neutronflow.foundation.errors import ConfigurationError, NeutronflowError, PortInUse
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.store.dsn import connection_parts

log = get_logger(__name__)

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
#: Looks at a request before its body is read; (status, sentence) refuses it.
EarlyCheck: TypeAlias = Callable[[Scope], "tuple[int, str] | None"]

#: A database that starts may need some time.
DATABASE_WITHIN_S = 60.0
#: How long the rest of a refused request is read and forgotten.
_LINGER_S = 3.0
_M_MMAP_THRESHOLD = -3  # malloc.h


class DatabaseAway(NeutronflowError):
    """The database cannot be reached: {detail}."""

    code = "database-away"


class MigrationFailed(NeutronflowError):
    """The database cannot be brought to this version's schema: {detail}."""

    code = "migration-failed"


def django_database(settings: Settings, role: str, **options: object) -> dict[str, object]:
    """An entry of DATABASES: through psycopg's pool, as each request may run in a thread of its own."""
    return {
        "ENGINE": "neutronflow.web.database",
        **connection_parts(settings, role),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 8, "timeout": 5}, "connect_timeout": 5, **options},
    }


def allowed_hosts(settings: Settings, more: tuple[str, ...]) -> list[str]:
    """The host names under which a service answers."""
    return ["localhost", "127.0.0.1", "[::1]", settings.core.bind, *more]


def require_secrets(settings: Settings, *names: str) -> None:
    """Find out at the start, not at the first request, that a secret is missing (:class:`SecretMissing`) or empty."""
    for name in names:
        if not settings.secret(name):
            raise ConfigurationError(where=f"secret '{name}'", detail="it is empty")


def prepare_django(module: str) -> None:
    """Load a service's Django settings."""
    os.environ["DJANGO_SETTINGS_MODULE"] = module
    import django

    django.setup()


def migrate() -> int:
    """Apply the migrations of the service whose settings are loaded. Raises :class:`MigrationFailed`."""
    from django.core.management import call_command
    from django.db.migrations.exceptions import MigrationSchemaMissing
    from django.db.utils import DatabaseError

    try:
        call_command("migrate", verbosity=1, interactive=False, stdout=sys.stderr)
    except (DatabaseError, MigrationSchemaMissing) as error:
        raise MigrationFailed(detail=str(error).strip().split("\n")[0]) from error
    return 0


def await_database(within_s: float = DATABASE_WITHIN_S) -> None:
    """Wait until the service's database answers. Raises :class:`DatabaseAway`."""
    from django.db import connection
    from django.db.utils import DatabaseError

    deadline = time.monotonic() + within_s
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, OSError) as error:
            if time.monotonic() > deadline:
                raise DatabaseAway(detail=str(error).strip().split("\n")[0]) from error
            connection.close()
            time.sleep(0.5)
        else:
            connection.close()
            return


def _return_large_blocks() -> None:
    """Have glibc give large blocks of memory back when they are freed, though one has been freed before."""
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def serve(application: Application, settings: Settings, service: str) -> int:
    """Serve until SIGTERM; ready once the port is open."""
    _return_large_blocks()
    port = settings.port(service)
    # With its protocol named: only then does asyncio switch off Nagle's algorithm, which delays each answer by 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.core.bind, port))
    except OSError as error:
        raise PortInUse(service=service, where=f"{settings.core.bind}:{port}", detail=error.strerror) from error
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
            # Who is in front of us is nothing that a client may tell.
            proxy_headers=False,
        )
    )

    def end(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn has handlers of its own while it serves, and afterwards raises the signal once more: for these.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        if server.started:
            notify_ready(f"http://{settings.core.bind}:{port}")
            log.info("web_ready", port=port)
        await serving

    asyncio.run(run())
    return 0


class LimitedBody:
    """Refuses a request by its headers, or as soon as its body is longer than allowed: before Django has read it."""

    def __init__(self, application: Application, max_bytes: int, early: EarlyCheck | None = None) -> None:
        self._application = application
        self._max_bytes = max_bytes
        self._early = early

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        refusal = self._early(scope) if self._early else None
        length = header(scope, "content-length")
        if refusal is None and length.isdecimal() and int(length) > self._max_bytes:
            refusal = self._too_long
        if refusal is None:
            body = _CountedBody(receive, self._max_bytes)
            await self._application(scope, body.receive, send)
            # Django takes the end of our patience for a client that went away, and answers nothing.
            refusal = self._too_long if body.too_long else None
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)

    @property
    def _too_long(self) -> tuple[int, str]:
        return 413, f"The request is longer than {self._max_bytes} bytes."


class _CountedBody:
    """A request's body, which ends when it gets too long."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = max_bytes
        self.too_long = False

    async def receive(self) -> Mapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_long = True
            return {"type": "http.disconnect"}
        return message


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    body = sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # Closed at once, the connection of a client that sends all before it reads would be reset, and the answer lost.
    # Who asked before sending (Expect) has nothing on its way.
    if not header(scope, "expect"):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                    pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def header(scope: Scope, name: str) -> str:
    """A request header; empty where it is missing."""
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header; empty where there is none."""
    kind, _, token = authorization.partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def same_secret(given: str, wanted: str) -> bool:
    """Whether two secrets are the same, in constant time; an empty one never is."""
    return bool(given) and hmac.compare_digest(given.encode(), wanted.encode())
