"""The routes that publishers and pages use (as today's), and the stream of new plots."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import UploadedFile
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from neutronflow.domain.facility import PROBE
from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.livedata.access import may_read, may_remove_probe, may_upload
from neutronflow.web.livedata.content import NoPlot, kind_of
from neutronflow.web.livedata.hub import HUB
from neutronflow.web.livedata.models import Plot
from neutronflow.web.livedata.settings import LIVEDATA

log = get_logger(__name__)

_CONTENT_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}
_LARGEST_RUN = 2**63 - 1
_HEARTBEAT_S = 15.0
_EVENTS_AT_A_TIME = 500
#: Key of the advisory lock under which plots are stored.
_STORING = 0x6E66_706C


@require_POST
def upload(request: HttpRequest, instrument: str, run: str) -> HttpResponse:
    """Store a plot as the newest of its run."""
    run_number = int(run)
    if run_number > _LARGEST_RUN:
        return _sentence(404, "There is no such run.")
    if not may_upload(request, instrument, run_number):
        return _unauthorized()
    file = request.FILES.get("file")
    if not isinstance(file, UploadedFile):
        return _sentence(400, "The upload has no part named 'file', so it holds no plot.")
    return _take(instrument, run_number, file, request.POST)


def _take(instrument: str, run_number: int, file: UploadedFile[bytes], form: QueryDict) -> HttpResponse:
    content = file.read()
    if len(content) > LIVEDATA.max_upload_mb * 2**20:
        return _sentence(413, f"The plot is longer than {LIVEDATA.max_upload_mb} MB.")
    try:
        kind = kind_of(content, form.get("data_type", ""))
    except NoPlot as error:
        log.warning("upload_refused", instrument=instrument, run=run_number, bytes=len(content), detail=str(error))
        return _sentence(400, str(error))
    live = form.get("live") == "1"
    plot = _store(instrument.lower(), run_number, kind, content, live=live)
    if plot is None:
        return _sentence(409, "This run has a plot that is no live picture.")
    report = log.debug if live else log.info
    report("plot_stored", instrument=instrument, run=run_number, kind=kind, bytes=len(content), id=plot.pk, live=live)
    HUB.announce()
    return HttpResponse()


@transaction.atomic
def _store(instrument: str, run_number: int, kind: str, content: bytes, *, live: bool) -> Plot | None:
    """Store it; None for a live picture of a run that has another plot already."""
    # One after the other: who has seen a plot in the stream has then seen all with a lower id, and of two uploads of a run
    # neither takes the other for an old version.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_STORING])
    versions = Plot.objects.filter(instrument=instrument, run_number=run_number)
    if live and versions.filter(live=False).exists():
        return None
    versions.filter(live=True).delete()
    plot = Plot.objects.create(
        live=live,
        instrument=instrument,
        run_number=run_number,
        kind=kind,
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
    )
    versions = versions.order_by("-pk")
    kept = list(versions.values_list("pk", flat=True)[: LIVEDATA.keep_versions])
    versions.filter(pk__lt=kept[-1]).delete()
    return plot


@require_safe
@gzip_page
def plot(request: HttpRequest, instrument: str, run: str, kind: str) -> HttpResponse:
    """The newest plot of a run, or the version asked for, byte for byte as it was uploaded."""
    run_number = int(run)
    if run_number > _LARGEST_RUN:
        return _none(instrument, run)
    if not may_read(request, instrument, run_number, run):
        return _unauthorized()
    plots = Plot.objects.filter(instrument=instrument.lower(), run_number=run_number)
    version = request.GET.get("version", "")
    if version:
        number = _number(version)
        plots = plots.none() if number is None else plots.filter(pk=number)
    found = plots.order_by("-pk").values("pk", "kind", "sha256", "created_at", "live").first()
    if found is None or found["kind"] != kind:
        return _none(instrument, run)
    etag = f'"{found["sha256"]}"'
    response = get_conditional_response(request, etag=etag)
    if response is None:
        content = plots.filter(pk=found["pk"]).values_list("content", flat=True).first()
        if content is None:  # so many newer ones have come since the line above
            return _none(instrument, run)
        response = HttpResponse(bytes(content), content_type=_CONTENT_TYPES[kind])
    response["ETag"] = etag
    response["Cache-Control"] = "no-cache"
    response["Last-Modified-At"] = found["created_at"].isoformat()
    if found["live"]:
        response["X-Neutronflow-Live"] = "1"
    return response


@require_safe
def history(request: HttpRequest, instrument: str, run: str) -> HttpResponse:
    """The versions of a run's plot, newest first."""
    run_number = int(run)
    if run_number > _LARGEST_RUN:
        return _none(instrument, run)
    if not may_read(request, instrument, run_number, run):
        return _unauthorized()
    rows = Plot.objects.filter(instrument=instrument.lower(), run_number=run_number).order_by("-pk")
    names = ("version", "kind", "sha256", "created_at", "live")
    found = rows.values_list("pk", *names[1:])
    return JsonResponse([dict(zip(names, row, strict=True)) for row in found], safe=False)


@require_http_methods(["DELETE"])
def remove_probe(request: HttpRequest, run: str) -> HttpResponse:
    """Remove the plots of a run of the pseudo-instrument PROBE."""
    if not may_remove_probe(request):
        return _unauthorized()
    Plot.objects.filter(instrument=PROBE.lower(), run_number=int(run)).delete()
    return HttpResponse()


@require_GET
async def events(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Server-sent events: each new plot; those since Last-Event-ID first."""
    if not may_read(request, "*", None):
        return _unauthorized()
    last = _number(request.headers.get("Last-Event-ID", ""))
    response = StreamingHttpResponse(_stream(last), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _stream(last: int | None) -> AsyncIterator[str]:
    with HUB.listening() as woken:
        try:
            newest = await _newest()
            # An id that is yet to come is one of another database, which has been here before.
            last = newest if last is None else min(last, newest)
            yield ": hello\n\n"
            while True:
                woken.clear()
                plots = await _plots_after(last)
                for last, instrument, run_number in plots:
                    yield _event(last, instrument, run_number)
                if len(plots) == _EVENTS_AT_A_TIME:
                    continue
                try:
                    async with asyncio.timeout(_HEARTBEAT_S):
                        await woken.wait()
                except TimeoutError:
                    yield ": still here\n\n"
        except DatabaseError as error:
            # The client comes back with the last id that it has seen.
            log.warning("event_stream_ended", detail=str(error).split("\n")[0])


# A stream lasts for hours; between two looks at the database it must hold neither a thread nor a connection of the pool.
@sync_to_async(thread_sensitive=False)
def _plots_after(last: int) -> list[tuple[int, str, int]]:
    try:
        rows = Plot.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "instrument", "run_number")
        return list(rows[:_EVENTS_AT_A_TIME])
    finally:
        connection.close()


@sync_to_async(thread_sensitive=False)
def _newest() -> int:
    try:
        return Plot.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    finally:
        connection.close()


def _event(number: int, instrument: str, run_number: int) -> str:
    data = json.dumps({"id": number, "instrument": instrument, "run": run_number})
    return f"id: {number}\nevent: plot\ndata: {data}\n\n"


def _number(text: str) -> int | None:
    """The number of a plot, or None where the text is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _none(instrument: str, run: str) -> HttpResponse:
    return _sentence(404, f"No data available for {instrument} {run}")


def _unauthorized() -> HttpResponse:
    response = _sentence(401, "A valid token, key or login is needed.")
    response["WWW-Authenticate"] = "Bearer"
    return response


def _sentence(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
