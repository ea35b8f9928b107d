"""The routes that publishers and pages use (as today's), and the stream of new plots."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from django.core.files.uploadedfile import UploadedFile
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_GET, require_POST, require_safe

from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.livedata.access import may_read, may_upload
from neutronflow.web.livedata.content import NoPlot, kind_of
from neutronflow.web.livedata.hub import HUB, event
from neutronflow.web.livedata.models import Plot
from neutronflow.web.livedata.settings import LIVEDATA

log = get_logger(__name__)

_CONTENT_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}
_LARGEST_RUN = 2**63 - 1
_HEARTBEAT_S = 15.0


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """Whether the database answers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return JsonResponse({"ok": False, "database": str(error).split("\n")[0]}, status=503)
    return JsonResponse({"ok": True})


@require_POST
def upload(request: HttpRequest, instrument: str, run: str) -> HttpResponse:
    """Store a plot as the newest of its run."""
    run_number = int(run)
    if run_number > _LARGEST_RUN:
        return _sentence(404, "There is no such run.")
    if not may_upload(request, instrument, run_number):
        return HttpResponse(status=401)
    file = request.FILES.get("file")
    if not isinstance(file, UploadedFile):
        return _sentence(400, "The upload has no part named 'file', so it holds no plot.")
    content = file.read()
    try:
        kind = kind_of(content, request.POST.get("data_type", ""))
    except NoPlot as error:
        log.warning("upload_refused", instrument=instrument, run=run_number, bytes=len(content), detail=str(error))
        return _sentence(400, str(error))
    plot = _store(instrument.lower(), run_number, kind, content)
    log.info("plot_stored", instrument=instrument, run=run_number, kind=kind, bytes=len(content), id=plot.pk)
    HUB.announce(plot)
    return HttpResponse()


@transaction.atomic
def _store(instrument: str, run_number: int, kind: str, content: bytes) -> Plot:
    plot = Plot.objects.create(
        instrument=instrument,
        run_number=run_number,
        kind=kind,
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
    )
    versions = Plot.objects.filter(instrument=instrument, run_number=run_number).order_by("-pk")
    kept = list(versions.values_list("pk", flat=True)[: LIVEDATA.keep_versions])
    versions.filter(pk__lt=kept[-1]).delete()
    return plot


@require_safe
def plot(request: HttpRequest, instrument: str, run: str, kind: str) -> HttpResponse:
    """The newest plot of a run, or the version asked for, byte for byte as it was uploaded."""
    run_number = int(run)
    if run_number > _LARGEST_RUN:
        return _none(instrument, run)
    if not may_read(request, instrument, run_number, run):
        return HttpResponse(status=401)
    found = Plot.objects.filter(instrument=instrument.lower(), run_number=run_number).order_by("-pk")
    version = request.GET.get("version", "")
    if version:
        found = found.filter(pk=int(version)) if version.isdigit() and len(version) < 19 else found.none()
    newest = found.first()
    if newest is None or newest.kind != kind:
        return _none(instrument, run)
    response = HttpResponse(bytes(newest.content), content_type=_CONTENT_TYPES[kind])
    response["ETag"] = f'"{newest.sha256}"'
    response["Cache-Control"] = "no-cache"
    response["Last-Modified-At"] = newest.created_at.isoformat()
    return response


@require_GET
def history(request: HttpRequest, instrument: str, run: str) -> HttpResponse:
    """The versions of a run's plot, newest first."""
    run_number = int(run)
    if run_number > _LARGEST_RUN or not may_read(request, instrument, run_number, run):
        return HttpResponse(status=401)
    rows = Plot.objects.filter(instrument=instrument.lower(), run_number=run_number).order_by("-pk")
    found = rows.values_list("pk", "kind", "sha256", "created_at")
    names = ("version", "kind", "sha256", "created_at")
    return JsonResponse([dict(zip(names, row, strict=True)) for row in found], safe=False)


@require_GET
async def events(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Server-sent events: each new plot; those since Last-Event-ID first."""
    if not may_read(request, "*", None):
        return HttpResponse(status=401)
    after = request.headers.get("Last-Event-ID", "")
    response = StreamingHttpResponse(
        _stream(int(after) if after.isdigit() and len(after) < 19 else None), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _stream(after: int | None) -> AsyncIterator[str]:
    listener = HUB.listen()
    try:
        yield ": hello\n\n"
        if after is not None:
            async for plot in Plot.objects.filter(pk__gt=after).order_by("pk").defer("content")[:1000]:
                yield event(plot)
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    yield await listener.get()
            except TimeoutError:
                yield ": still here\n\n"
    finally:
        HUB.leave(listener)


def _none(instrument: str, run: str) -> HttpResponse:
    return _sentence(404, f"No data available for {instrument} {run}")


def _sentence(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
