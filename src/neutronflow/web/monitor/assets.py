"""Static files: our own, and those that installed packages ship. Addresses carry a digest, so browsers may keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from asgiref.wsgi import WsgiToAsgi
from whitenoise import WhiteNoise

from neutronflow.web.serving import Application, Receive, Scope, Send

PREFIX = "/static/"
_OWN = Path(__file__).parent / "static"
_YEAR_S = 31_536_000


@cache
def files() -> Mapping[str, Path]:
    """Name below :data:`PREFIX` -> file."""
    own = {str(path.relative_to(_OWN)): path for path in sorted(_OWN.rglob("*")) if path.is_file()}
    return {
        **own,
        "plotly.min.js": _packaged("plotly", "package_data/plotly.min.js"),
        "htmx.min.js": _packaged("django_htmx", "static/django_htmx/htmx-2.min.js"),
    }


def _packaged(package: str, name: str) -> Path:
    return Path(str(resources.files(package).joinpath(name)))


@cache
def asset_url(name: str) -> str:
    """The address of a static file, with a digest of its content."""
    digest = hashlib.sha256(files()[name].read_bytes()).hexdigest()[:12]
    return f"{PREFIX}{name}?v={digest}"


def with_assets(application: Application) -> Application:
    """Answers what is below :data:`PREFIX` without Django; everything else goes to ``application``."""
    server = WhiteNoise(_not_found, max_age=_YEAR_S, charset="utf-8", add_headers_function=_headers)
    for name, path in files().items():
        server.add_file_to_dictionary(f"{PREFIX}{name}", str(path))
    static: Any = WsgiToAsgi(server)  # type: ignore[no-untyped-call]

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            # A thread for each, else one slow reader of a large file would hold up all others.
            async with ThreadSensitiveContext():
                await static(scope, receive, send)
        else:
            await application(scope, receive, send)

    return dispatch


def _headers(headers: Any, _path: str, _url: str) -> None:
    headers["X-Content-Type-Options"] = "nosniff"


def _not_found(_environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"There is no such file."]
