"""What comes from other services while the page is there already: the plot, and what the catalog knows of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from neutronflow.foundation.telemetry import get_logger
from neutronflow.foundation.tokens import mint
from neutronflow.web.monitor.assets import PREFIX
from neutronflow.web.monitor.context import theme
from neutronflow.web.monitor.settings import CATALOG_URL, LIVEDATA_URL, MONITOR, SETTINGS

log = get_logger(__name__)

_MAX_PLOT_BYTES = 64 << 20
_MAX_VERSIONS = 50


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=MONITOR.patience_s, trust_env=False)


def _plot_request(name: str, number: int, what: str) -> tuple[str, dict[str, str]]:
    """Address and headers to ask the live data server with."""
    claims = {"instrument": name.upper(), "run": str(number)}
    token = mint(SETTINGS.secret("livedata-tokens"), "plot-read", claims, 60)
    return f"{LIVEDATA_URL}/plots/{name.lower()}/{number}/{what}", {"Authorization": f"Bearer {token}"}


@require_safe
async def plot_card(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:
    """The plot's frame with its age; 204 where the page has this version already."""
    url, headers = _plot_request(name, number, "history/")
    versions: list[dict[str, Any]] = []
    problem = ""
    try:
        async with _client() as client:
            answer = await client.get(url, headers=headers)
            answer.raise_for_status()
            versions = [_version(entry) for entry in answer.json()[:_MAX_VERSIONS]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        log.warning("live_data_unreachable", url=LIVEDATA_URL, detail=str(error) or type(error).__name__)
        problem = "The live data server does not answer just now."
    have = request.GET.get("have", "")
    if have and (problem or (versions and str(versions[0]["version"]) == have)):
        return HttpResponse(status=204)
    if versions and versions[0]["live"] and request.GET.get("live") == versions[0]["kind"] == "json":
        # The page's frame draws a live picture anew by itself: it only has to be told.
        trigger = {"live-plot": {"at": versions[0]["at"].isoformat()}}
        return HttpResponse(status=204, headers={"HX-Trigger": json.dumps(trigger)})
    values = {
        "versions": versions,
        "problem": problem,
        "label": f"{name.upper()} {number}",
        "path": f"/instruments/{facility.upper()}/{name.upper()}/runs/{number}/",
    }
    return render(request, "monitor/_plot.html", values)


def _version(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": int(entry["version"]),
        "kind": str(entry["kind"]),
        "at": datetime.fromisoformat(entry["created_at"]),
        "live": entry.get("live") is True,
    }


@require_safe
async def plot_frame(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:  # noqa: ARG001 - the route's
    """The plot as a document of its own: it was written by others, so it gets an origin of its own, and no network."""
    kind = "json" if request.GET.get("kind") == "json" else "html"
    version = request.GET.get("version", "")
    url, headers = _plot_request(name, number, f"update/{kind}/")
    status, body = 200, ""
    try:
        async with _client() as client:
            answer = await client.get(
                url, headers=headers, params={"version": version} if version.isascii() and version.isdigit() else {}
            )
        if answer.status_code != httpx.codes.OK:
            # A live picture may just have given way to the reduction's plot; a page of the monitor must not be framed.
            status, body = 404, "<p>There is no such plot, or not any more.</p>"
        elif len(answer.content) > _MAX_PLOT_BYTES:
            status, body = 502, "<p>The plot is too large to be shown.</p>"
        else:
            body = _figure(answer.text) if kind == "json" else answer.text
    except httpx.HTTPError:
        status, body = 502, "<p>The live data server does not answer just now.</p>"
    values = {"body": body, "theme": theme(request), "label": f"{name.upper()} {number}"}
    response = render(request, "monitor/frame.html", values, status=status)
    ours = f"{request.scheme}://{request.get_host()}{PREFIX}"
    response["Content-Security-Policy"] = (
        f"sandbox allow-scripts; default-src 'none'; script-src {ours} 'unsafe-inline' 'unsafe-eval'; "
        f"style-src {ours} 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    response["X-Frame-Options"] = "SAMEORIGIN"
    return response


@require_safe
async def plot_figure(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:  # noqa: ARG001 - the route's
    """The newest plot as JSON, for a frame that shows an earlier one."""
    url, headers = _plot_request(name, number, "update/json/")
    try:
        async with _client() as client:
            answer = await client.get(url, headers=headers)
    except httpx.HTTPError:
        return HttpResponse(status=502)
    if answer.status_code != httpx.codes.OK or len(answer.content) > _MAX_PLOT_BYTES:
        raise Http404
    return HttpResponse(answer.content, content_type="application/json")


def _figure(text: str) -> str:
    """A figure as JSON (``data``, ``layout``), to be drawn by the frame's script; other JSON as text."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    drawn = isinstance(values, dict) and isinstance(values.get("data"), list)
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    if drawn:
        script = f'<script type="application/json" id="figure-data">{safe}</script>'
        return f'<div id="figure" class="plotly-graph-div"></div>{script}'
    return "<p>This plot is in a form that pages cannot draw.</p>"


@require_safe
async def catalog_facts(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:
    """Title, times, counts and charge of a run, as the catalog has them."""
    query = {
        "facility": facility.upper(),
        "instrument": name.upper(),
        "ranges_q": f"indexed.run_number:{number}",
        "projection": ["location", "size", "metadata.entry"],
    }
    headers = {"Authorization": f"Bearer {SETTINGS.secret('catalog-token')}"}
    entry: Mapping[str, Any] = {}
    problem = ""
    try:
        async with _client() as client:
            answer = await client.get(f"{CATALOG_URL}/api/datafiles", params=query, headers=headers)
        answer.raise_for_status()
        found = answer.json()
        newest = found[-1]["metadata"]["entry"] if found else {}
        entry = newest if isinstance(newest, Mapping) else {}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        log.warning("catalog_unreachable", url=CATALOG_URL, detail=str(error) or type(error).__name__)
        problem = "The catalog does not answer just now."
    return render(request, "monitor/_catalog.html", {"facts": _facts(entry), "problem": problem})


def _facts(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of what is known, in the order in which people look for it."""
    counts, charge, seconds = (entry.get(key) for key in ("total_counts", "proton_charge", "duration"))
    facts = [
        ("Title", str(entry.get("title") or "")),
        ("Began", _moment(entry.get("start_time"))),
        ("Ended", _moment(entry.get("end_time"))),
        ("Duration", f"{seconds:,.1f} s" if isinstance(seconds, int | float) else ""),
        ("Counts", f"{counts:,}" if isinstance(counts, int) else ""),
        # NeXus files have it in picocoulombs.
        ("Proton charge", f"{charge / 1e9:,.4g} mC" if isinstance(charge, int | float) else ""),
    ]
    return [(name, value[:300]) for name, value in facts if value]


def _moment(value: object) -> str:
    text = str(value or "")[:40]
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S %Z}".strip()
    except ValueError:
        return text
