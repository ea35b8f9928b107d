"""Headers that every answer of the live data server has: what it serves was written by others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import async_only_middleware

from neutronflow.web.livedata.settings import LIVEDATA

Answerer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def hardened(get_response: Answerer) -> Answerer:
    """Adds them; refuses requests for another host; answers browsers that ask before they fetch (CORS)."""

    async def answer(request: HttpRequest) -> HttpResponseBase:
        # Raises DisallowedHost, which Django makes a 400.
        request.get_host()
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _harden(request, HttpResponse(status=204))
        return _harden(request, await get_response(request))

    return answer


def _harden(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response["X-Content-Type-Options"] = "nosniff"
    response["Referrer-Policy"] = "no-referrer"
    # Opened on its own, a plot gets an origin of its own: it can reach neither cookies nor other pages.
    response["Content-Security-Policy"] = "sandbox allow-scripts"
    if isinstance(response, HttpResponse) and response.status_code not in (204, 304):
        response.headers.setdefault("Content-Length", str(len(response.content)))
    if LIVEDATA.cors_origins:
        patch_vary_headers(response, ["Origin"])
    origin = request.headers.get("Origin", "")
    if origin in LIVEDATA.cors_origins:
        response["Access-Control-Allow-Origin"] = origin
        response["Access-Control-Allow-Headers"] = "Authorization"
    return response
