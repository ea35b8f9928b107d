"""The pages."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from neutronflow.domain.facility import PROBE
from neutronflow.domain.workflow.states import RunState
from neutronflow.store.models import JobReport
from neutronflow.web.monitor import reading
from neutronflow.web.monitor.filters import Cursor, RunSearch, chosen_states, cursor_text
from neutronflow.web.monitor.live import live_view
from neutronflow.web.monitor.logtext import lines_of, plain_text
from neutronflow.web.monitor.settings import MONITOR
from neutronflow.web.monitor.timeline import timeline
from neutronflow.web.monitor.words import RUN_BADGES, step_title


@require_safe
def home(_request: HttpRequest) -> HttpResponse:
    """The instruments are home."""
    return redirect("/instruments/")


@require_safe
def instruments(request: HttpRequest) -> HttpResponse:
    """All instruments with what they are at."""
    change = reading.newest_change()
    return render(
        request, "monitor/instruments.html", {"change": change, "rows": reading.instruments(), "at": "instruments"}
    )


@require_safe
def runs(request: HttpRequest, facility: str, name: str) -> HttpResponse:
    """The runs of an instrument, newest first."""
    change = reading.newest_change()
    instrument = reading.instrument(facility, name)
    if instrument is None:
        raise Http404
    search = RunSearch.of(request.GET.get("q", ""))
    states = chosen_states(request.GET.getlist("state"))
    older = Cursor.of("older", request.GET.get("older", ""))
    newer = Cursor.of("newer", request.GET.get("newer", ""))
    page = reading.runs(instrument, search, states, older or newer, MONITOR.page_size)
    values = {
        "change": change,
        "instrument": instrument,
        "live": live_view(instrument),
        "page": page,
        "search": search,
        "states": states,
        "chips": _chips(search, states),
        "older": _address(search, states, older=page.rows[-1]) if page.rows and page.has_older else "",
        "newer": _address(search, states, newer=page.rows[0]) if page.rows and page.has_newer else "",
        "at": "instruments",
    }
    return render(request, "monitor/runs.html", values)


@require_safe
def now(request: HttpRequest, facility: str, name: str) -> HttpResponse:
    """What an instrument does now, as a part of its page."""
    instrument = reading.instrument(facility, name)
    if instrument is None:
        raise Http404
    return render(request, "monitor/_now.html", {"live": live_view(instrument)})


def _address(search: RunSearch, states: tuple[str, ...], **edge: reading.RunRow) -> str:
    """The address of the page beyond a run, or of the first one, with the same filters."""
    parts = [("q", search.text)] if search.text else []
    parts += [("state", state) for state in states]
    parts += [(way, cursor_text(row.run.created_at, row.run.pk)) for way, row in edge.items()]
    return "?" + urlencode(parts)


def _chips(search: RunSearch, states: tuple[str, ...]) -> list[dict[str, object]]:
    """One for each state: its address adds it to the filter, or takes it away."""
    chips: list[dict[str, object]] = [
        {"text": "all", "badge": None, "on": not states, "url": _address(search, ())},
    ]
    for state in (RunState.FAILED, RunState.PROCESSING, RunState.ACQUIRING, RunState.TRANSLATING, RunState.COMPLETE):
        on = state.value in states
        after = tuple(word for word in states if word != state) if on else (*states, state.value)
        chips.append({"text": state.value, "badge": RUN_BADGES[state], "on": on, "url": _address(search, after)})
    return chips


@require_safe
def run(request: HttpRequest, facility: str, name: str, number: int) -> HttpResponse:
    """One run: its plot, its steps, its files, its story."""
    change = reading.newest_change()
    found = reading.find_run(facility, name, number)
    if found is None:
        raise Http404
    view = reading.run_view(found)
    path = f"/instruments/{found.instrument}/runs/{number}/"
    values = {
        "change": change,
        "view": view,
        "run": found,
        "hidden": found.instrument.name == PROBE,
        "path": path,
        "at": "instruments",
        "bars": timeline(view.steps),
    }
    return render(request, "monitor/run.html", values)


@require_safe
def log(request: HttpRequest, facility: str, name: str, number: int, report: int) -> HttpResponse:
    """The log of one attempt of a step: as a part of its page, on its own, or as text to keep."""
    found = (
        JobReport.objects.filter(
            pk=report,
            run__run_number=number,
            run__instrument__facility=facility.upper(),
            run__instrument__name=name.upper(),
        )
        .select_related("run__instrument")
        .first()
    )
    if found is None:
        raise Http404
    if "raw" in request.GET:
        response = HttpResponse(plain_text(found.log), content_type="text/plain; charset=utf-8")
        file = f"{found.run.instrument.name}_{number}_{found.step}_{found.pk}.log"
        response["Content-Disposition"] = (
            f'attachment; filename="{"".join(c for c in file if c.isalnum() or c in "_.-")}"'
        )
        return response
    lines, left_out = lines_of(found.log)
    path = f"/instruments/{found.run.instrument}/runs/{number}/"
    values = {
        "report": found, "run": found.run, "lines": lines, "left_out": left_out, "path": path,
        "title": step_title(found.step), "at": "instruments", "change": 0,
    }  # fmt: skip
    part = "_log" if request.headers.get("HX-Request") else "log"
    return render(request, f"monitor/{part}.html", values)


@require_safe
def services(request: HttpRequest) -> HttpResponse:
    """The services that send heartbeats."""
    change = reading.newest_change()
    return render(request, "monitor/services.html", {"change": change, "rows": reading.services(), "at": "services"})
