"""The stream of what changes."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_GET

from neutronflow.web.monitor.feed import stream

#: After that a browser comes back by itself, and has to be logged in still.
_LIFETIME_S = 1800.0


@require_GET
async def events(request: HttpRequest) -> HttpResponseBase:
    """Server-sent events; with ``Last-Event-ID`` (or ``?after=``) those that came after it first."""
    # The login was checked with a connection of the pool, which a stream must not keep.
    await sync_to_async(connections.close_all)()
    known = request.headers.get("Last-Event-ID", "") or request.GET.get("after", "")
    after = int(known) if known.isascii() and known.isdigit() and len(known) < 19 else None
    response = StreamingHttpResponse(stream(after, _LIFETIME_S), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response
