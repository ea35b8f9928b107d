"""The API for programs: what the pages show, as JSON, and the files that jobs have written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from neutronflow.domain.facility import PROBE
from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.monitor import reading
from neutronflow.web.monitor.filters import Cursor, RunSearch, chosen_states, cursor_text
from neutronflow.web.monitor.live import as_json, live_view
from neutronflow.web.monitor.service_user import ServiceUser
from neutronflow.web.monitor.settings import FACILITIES, LIVEDATA_URL

log = get_logger(__name__)

_MAX_LIMIT = 500
_CHUNK = 1 << 20


@csrf_exempt
@require_http_methods(["GET", "HEAD", "DELETE"])
def run(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:
    """One run with the current attempts of its steps, and its files. The probe may remove its own."""
    if request.method == "DELETE":
        return _remove(request, facility, name, number)
    found = reading.find_run(facility, name, number)
    if found is None:
        return _none("There is no such run.")
    view = reading.run_view(found, with_events=False)
    base = f"/api/runs/{view.name}"
    steps = [_step(step) for step in view.steps]
    values = {
        **_brief(found),
        "data_file": found.data_file,
        "steps": steps,
        "notices": [notice.text for notice in reading.beamline_of(found).notices],
        "files": [
            {
                "path": file.path,
                "size": file.size,
                "kind": file.kind,
                "url": f"{base}/files/{quote(file.name, safe='')}",
            }
            for file in view.files
        ],
        "plot_url": f"{LIVEDATA_URL}/plots/{found.instrument.name.lower()}/{found.run_number}/update/html/",
    }
    return JsonResponse(values)


def _remove(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:
    """204 where a run of the probe is gone now. A browser's session is not enough, so nothing can be forged."""
    if name.upper() != PROBE or not isinstance(request.user, ServiceUser):
        return JsonResponse({"error": "Only the probe's own runs can be removed, and only by programs."}, status=403)
    with connection.cursor() as cursor:
        cursor.execute("SELECT nf_remove_probe_run(%s, %s)", [facility, number])
        removed = cursor.fetchone()
    if removed != (True,):
        return _none("There is no such run.")
    log.info("probe_run_removed", facility=facility, run=number)
    return HttpResponse(status=204)


@require_safe
def instrument(_request: HttpRequest, facility: str, name: str) -> HttpResponse:
    """What an instrument does now, with the times of all values."""
    found = reading.instrument(facility, name)
    if found is None:
        return _none("There is no such instrument.")
    return JsonResponse(as_json(live_view(found)))


@require_safe
def runs(request: HttpRequest, facility: str, name: str) -> HttpResponse:
    """Runs of an instrument, newest first: ``limit``, ``q``, ``state`` as on its page, ``older`` for the next page."""
    of = reading.instrument(facility, name)
    if of is None:
        return _none("There is no such instrument.")
    text = request.GET.get("limit", "50")
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    search = RunSearch.of(request.GET.get("q", ""))
    cursor = Cursor.of("older", request.GET.get("older", ""))
    if not 1 <= limit <= _MAX_LIMIT or search.problem or (request.GET.get("older") and cursor is None):
        problem = search.problem or f"'limit' is a number from 1 to {_MAX_LIMIT}, 'older' what an answer has given."
        return JsonResponse({"error": problem}, status=400)
    page = reading.runs(of, search, chosen_states(request.GET.getlist("state")), cursor, limit)
    last = page.rows[-1].run if page.rows and page.has_older else None
    values = {
        "runs": [{**_brief(row.run, of), "steps": [_step(step) for step in row.steps]} for row in page.rows],
        "older": cursor_text(last.created_at, last.pk) if last else None,
    }
    return JsonResponse(values)


@require_safe
async def file(request: HttpRequest, facility: str, name: str, number: int, file_name: str) -> HttpResponseBase:
    """The raw file of a run, or one that a job has written, if it still lies in the archive."""
    path, size = await sync_to_async(_reported_file)(facility, name, number, file_name)
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": content_disposition_header(as_attachment=True, filename=file_name) or "attachment",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if request.method == "HEAD":
        return HttpResponse(headers=headers, content_type="application/octet-stream")
    return StreamingHttpResponse(_chunks(path, size), headers=headers, content_type="application/octet-stream")


def _reported_file(facility: str, name: str, number: int, file_name: str) -> tuple[Path, int]:
    """Path and size in bytes. What is not there, or lies elsewhere, is not found."""
    found = reading.find_run(facility, name, number)
    files = reading.reported_files(found) if found else []
    connections.close_all()
    reported = next((entry for entry in files if entry.name == file_name), None)
    if reported is None:
        raise Http404
    try:
        # Resolved once, so that what was checked is what is opened.
        path = Path(reported.path).resolve(strict=True)
        if not FACILITIES.contains(path) or not path.is_file():
            log.warning("file_refused", path=reported.path)
            raise Http404
        return path, path.stat().st_size
    except (OSError, ValueError, RuntimeError) as error:
        raise Http404 from error


async def _chunks(path: Path, size: int) -> AsyncIterator[bytes]:
    """The first ``size`` bytes of a file, also where it grows meanwhile."""
    with path.open("rb") as stream:
        while size > 0:
            data = await asyncio.to_thread(stream.read, min(_CHUNK, size))
            if not data:
                return
            size -= len(data)
            yield data


def _brief(run: Any, instrument: Any = None) -> dict[str, Any]:
    instrument = instrument or run.instrument
    return {
        "facility": instrument.facility,
        "instrument": instrument.name,
        "run_number": run.run_number,
        "experiment": run.experiment.name if run.experiment else None,
        "state": run.state,
        "state_since": run.state_since,
        "simulated": run.simulated,
        "created_at": run.created_at,
        "cycle": run.cycle,
        "page_url": f"/instruments/{instrument}/runs/{run.run_number}/",
    }


def _step(step: reading.StepView) -> dict[str, Any]:
    record = step.record
    names = ("name", "attempt", "cycle", "state", "queued_at", "started_at", "ended_at", "agent", "error")
    return {key: getattr(record, key) for key in names}


def _none(sentence: str) -> JsonResponse:
    return JsonResponse({"error": sentence}, status=404)
