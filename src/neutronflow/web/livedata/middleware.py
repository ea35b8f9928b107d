"""Headers that every answer of the live data server has: what it serves was written by others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from neutronflow.web.livedata.settings import LIVEDATA


class Hardened:
    """Adds them, for synchronous and asynchronous views."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """One request."""
        answer = self._get_response(request)
        if isinstance(answer, HttpResponseBase):
            return _harden(request, answer)
        return self._later(request, answer)

    async def _later(self, request: HttpRequest, answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        return _harden(request, await answer)


def _harden(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response["X-Content-Type-Options"] = "nosniff"
    response["Referrer-Policy"] = "no-referrer"
    # Opened on its own, a plot gets an origin of its own: it can reach neither cookies nor other pages.
    response["Content-Security-Policy"] = "sandbox allow-scripts"
    origin = request.headers.get("Origin", "")
    if origin in LIVEDATA.cors_origins:
        response["Access-Control-Allow-Origin"] = origin
        response["Access-Control-Allow-Headers"] = "Authorization"
        response["Vary"] = "Origin"
    return response
