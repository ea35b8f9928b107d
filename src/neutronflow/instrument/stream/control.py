"""Run control: a small HTTP API on the local machine, for the program (or the person) that takes runs.

``POST /api/run/start|stop|pause|resume``, ``POST /api/annotation``, ``GET /api/state``. The secret ``run-control-token`` is
the bearer token. Errors are ``{"error": code, "detail": sentence}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal, TypeVar

import msgspec
import uvicorn

from neutronflow.domain.adara.packets import MarkerType
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.stream.recorder import Recorder
from neutronflow.instrument.stream.runinfo import RunDescription

log = get_logger(__name__)

_LONGEST_BODY: Final = 256 << 10
_STOP_S: Final = 2.0

T = TypeVar("T")
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class AnnotationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A marker to be put into the stream."""

    marker: Literal["scan_start", "scan_stop", "comment", "run_comment"]
    scan_index: int = 0
    comment: str = ""


_MARKERS: Final = {
    "scan_start": MarkerType.SCAN_START,
    "scan_stop": MarkerType.SCAN_STOP,
    "comment": MarkerType.GENERIC,
    "run_comment": MarkerType.OVERALL_RUN_COMMENT,
}


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class RunControl:
    """The API as an ASGI application."""

    def __init__(self, recorder: Recorder, token: str) -> None:
        self._recorder = recorder
        self._token = token

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            self._check(scope)
            status, answer = 200, await self._answer(scope["method"], scope["path"], receive)
        except Refusal as refusal:
            status, answer = refusal.status, {"error": refusal.code, "detail": refusal.detail}
        except NeutronflowError as error:
            status, answer = 409, {"error": error.code, "detail": str(error)}
        body = msgspec.json.encode(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _check(self, scope: dict[str, Any]) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise Refusal(401, "not-authorized", "The bearer token is missing or wrong.")

    async def _answer(self, method: str, path: str, receive: Receive) -> dict[str, Any]:
        recorder = self._recorder
        match method, path:
            case "GET", "/api/state":
                return recorder.state()
            case "POST", "/api/run/start":
                description = await _read(receive, RunDescription)
                return {"run_number": await recorder.start_run(description)}
            case "POST", "/api/run/stop":
                return {"run_number": await recorder.stop_run()}
            case "POST", "/api/run/pause":
                return {"run_number": await recorder.pause(paused=True)}
            case "POST", "/api/run/resume":
                return {"run_number": await recorder.pause(paused=False)}
            case "POST", "/api/annotation":
                asked = await _read(receive, AnnotationRequest)
                if not 0 <= asked.scan_index < 1 << 32:
                    raise Refusal(400, "bad-request", f"There is no scan index {asked.scan_index}.")
                await recorder.annotate(_MARKERS[asked.marker], asked.scan_index, asked.comment)
                return {}
        raise Refusal(404, "not-found", f"There is no {method} {path[:200]}.")


async def _read(receive: Receive, kind: type[T]) -> T:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LONGEST_BODY:
            raise Refusal(413, "too-large", f"The request is longer than {_LONGEST_BODY} bytes.")
        if not message.get("more_body"):
            break
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, "bad-request", str(error)) from error


async def serve(application: RunControl, listener: socket.socket) -> None:
    """Serve until cancelled."""
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=30, limit_concurrency=64
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await asyncio.wait({serving}, timeout=_STOP_S)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield
