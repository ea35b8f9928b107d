"""The upload: one multipart form, over urllib, with certificates verified."""

from __future__ import annotations

import os
import ssl
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from plot_publisher.configuration import Configuration, PlotPublisherError, read_configuration
from plot_publisher.figures import inject_plotlyjs_version

_TIMEOUT_S = 30.0
#: Waits between attempts when the server cannot be reached or is out of order.
_BACK_OFF_S = (0.3, 0.7, 1.5, 3.0, 5.0)


class PublishRefused(PlotPublisherError):
    """The server does not take the plot."""


class PublishFailed(PlotPublisherError):
    """The server could not be reached, or failed."""


class Response(NamedTuple):
    """What the server said."""

    status_code: int
    text: str
    url: str


def publish_plot(
    instrument: str,
    run_number: int | str,
    files: Mapping[str, str | bytes],
    config: str | os.PathLike[str] | None = None,
) -> Response:
    """Publish a plot of a run: ``files={"file": html}``; JSON text is taken, too.

    ``config`` names a configuration file; see :mod:`plot_publisher.configuration` for what applies without it.

    Raises :class:`plot_publisher.ConfigurationInvalid`, :class:`PublishRefused` (the plot or the credentials are not
    accepted) or :class:`PublishFailed` (after some ten seconds of attempts).
    """
    configuration = read_configuration(config)
    url = configuration.url(instrument, run_number)
    body, content_type = _multipart(_form(configuration), {name: _content(data) for name, data in files.items()})
    headers = {"Content-Type": content_type, "User-Agent": "plot_publisher"}
    if configuration.token:
        headers["Authorization"] = f"Bearer {configuration.token}"
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=_tls(configuration)))
    for wait_s in _BACK_OFF_S:
        try:
            return _post(opener, url, body, headers)
        except PublishFailed:
            time.sleep(wait_s)
    return _post(opener, url, body, headers)


def _post(opener: urllib.request.OpenerDirector, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - http(s) only
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return Response(int(answer.status), answer.read(65536).decode("utf-8", "replace"), url)
    except urllib.error.HTTPError as error:
        with error:
            reason = error.read(2000).decode("utf-8", "replace").strip() or error.reason
        kind = PublishFailed if error.code >= 500 else PublishRefused
        raise kind(f"{url} answered {error.code}: {reason}") from None
    except OSError as error:  # URLError, time-outs, resets
        raise PublishFailed(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error


def _form(configuration: Configuration) -> dict[str, str]:
    if configuration.token:
        return {}
    return {"username": configuration.username, "password": configuration.password}


def _content(data: str | bytes) -> bytes:
    return inject_plotlyjs_version(data).encode("utf-8") if isinstance(data, str) else data


def _multipart(fields: Mapping[str, str], files: Mapping[str, bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        parts.append(_part(boundary, f'form-data; name="{_quoted(name)}"', value.encode("utf-8")))
    for name, content in files.items():
        disposition = f'form-data; name="{_quoted(name)}"; filename="{_quoted(name)}"'
        parts.append(_part(boundary, disposition, content))
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _part(boundary: str, disposition: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ca_file or None)
    if configuration.certificate:
        context.load_cert_chain(configuration.certificate)
    return context


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would silently arrive as a GET without the plot; so a redirect is an answer like any other."""

    def redirect_request(self, *_arguments: Any, **_keywords: Any) -> None:
        return None
