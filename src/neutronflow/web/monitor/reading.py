"""What pages and the API show, read from the workflow database: a fixed number of queries, whatever there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from django.db.models import Count, F, Func, IntegerField, Max, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from neutronflow.domain.facility import PROBE
from neutronflow.domain.messages import combus
from neutronflow.domain.messages.destinations import POSTPROCESS_DATA_READY
from neutronflow.domain.workflow import acquisition
from neutronflow.domain.workflow.states import RunState, StepName, StepState
from neutronflow.store.models import Change, Event, Instrument, JobReport, Run, ServiceStatus, StatusValue, Step
from neutronflow.web.monitor.filters import Cursor, RunSearch
from neutronflow.web.monitor.live import State, number_text, states
from neutronflow.web.monitor.words import (
    IDLE,
    STEP_ORDER,
    STEP_SENTENCES,
    STEPS,
    Badge,
    freshness,
    hint,
    run_badge,
    step_badge,
    step_title,
)

_STORY = 200
_BEAMLINE = 500
_NOTICES = 10
#: A last run that ended longer ago says nothing of what an instrument does now.
_RECENT = timedelta(hours=1)
_LARGEST = 2**63 - 1


def newest_change() -> int:
    """The id of the newest change; to be read before what a page shows, so that nothing can fall between."""
    return Change.objects.aggregate(newest=Max("id"))["newest"] or 0


@dataclass(frozen=True, slots=True)
class InstrumentRow:
    """An instrument, its newest run, and how many of its runs failed in the last day and have not been mended."""

    facility: str
    name: str
    badge: Badge
    run: Run | None
    failed: int
    #: What its services tell of now; None where they never did.
    state: State | None = None
    count_rate: StatusValue | None = None

    @property
    def run_badge(self) -> Badge | None:
        """The badge of the newest run, where the state does not tell of it."""
        return run_badge(self.run.state) if self.run is not None and self.state is not None else None

    @property
    def rate_text(self) -> str:
        """The count rate as people read it."""
        return number_text(self.count_rate.value) if self.count_rate is not None else ""


def instruments() -> list[InstrumentRow]:
    """All instruments but that of the probe, by facility and name. Four queries."""
    newest = Run.objects.filter(instrument=OuterRef("pk")).order_by("-created_at", "-id")
    recent = Run.objects.filter(
        instrument=OuterRef("pk"), created_at__gt=timezone.now() - timedelta(hours=24), state=RunState.FAILED
    )
    counted = recent.order_by().values("instrument").annotate(n=Count("id")).values("n")
    found = Instrument.objects.annotate(
        newest_id=Subquery(newest.values("pk")[:1]), failed=Subquery(counted, output_field=IntegerField())
    )
    rows = list(found.exclude(name=PROBE).order_by("facility", "name"))
    now, rates = states(rows)
    runs = Run.objects.select_related("experiment").in_bulk([row.newest_id for row in rows if row.newest_id])
    return [
        InstrumentRow(
            row.facility,
            row.name,
            now[row.pk].badge if row.pk in now else _instrument_badge(runs.get(row.newest_id)),
            runs.get(row.newest_id),
            row.failed or 0,
            now.get(row.pk),
            rates.get(row.pk),
        )
        for row in rows
    ]


def _instrument_badge(run: Run | None) -> Badge:
    if run is None:
        return IDLE
    busy = run.state in (RunState.ACQUIRING, RunState.TRANSLATING, RunState.PROCESSING)
    if busy or run.state == RunState.FAILED or timezone.now() - run.state_since < _RECENT:
        return run_badge(run.state)
    return IDLE


def instrument(facility: str, name: str) -> Instrument | None:
    """An instrument by its names in any case; None for that of the probe, which is in no list."""
    return Instrument.objects.filter(facility=facility.upper(), name=name.upper()).exclude(name=PROBE).first()


@dataclass(slots=True)
class RunRow:
    """A run in a list, with the current attempts of its steps."""

    run: Run
    badge: Badge
    steps: list[StepView] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a list of runs, newest first."""

    rows: Sequence[RunRow]
    has_older: bool
    has_newer: bool


def runs(of: Instrument, search: RunSearch, states: Iterable[str], cursor: Cursor | None, count: int) -> RunPage:
    """A page of an instrument's runs. Two queries, none of which counts."""
    found = _searched(Run.objects.filter(instrument=of).select_related("experiment"), search, list(states))
    newer = cursor is not None and cursor.way == "newer"
    if cursor is not None:
        # The first condition is what the index can use; the second decides between equal times.
        if newer:
            edge = Q(created_at__gt=cursor.created_at) | Q(id__gt=cursor.run_id)
            found = found.filter(edge, created_at__gte=cursor.created_at)
        else:
            edge = Q(created_at__lt=cursor.created_at) | Q(id__lt=cursor.run_id)
            found = found.filter(edge, created_at__lte=cursor.created_at)
    ordered = found.order_by("created_at", "id") if newer else found.order_by("-created_at", "-id")
    taken = list(ordered[: count + 1])
    more = len(taken) > count
    taken = taken[:count]
    if newer:
        taken.reverse()
    return RunPage(_with_steps(taken), has_older=newer or more, has_newer=more if newer else cursor is not None)


def _searched(found: QuerySet[Run], search: RunSearch, states: list[str]) -> QuerySet[Run]:
    if states:
        found = found.filter(state__in=states)
    wanted = Q()
    for first, last in search.ranges:
        wanted |= Q(run_number__range=(first, last))
    if search.experiments:
        wanted |= Q(experiment__name__in=search.experiments)
    return found.filter(wanted) if wanted else found


def _with_steps(taken: Sequence[Run]) -> list[RunRow]:
    rows = {run.pk: RunRow(run, run_badge(run.state)) for run in taken}
    for step in current_steps(Step.objects.filter(run__in=list(rows)).order_by("attempt")):
        row = rows[step.record.run_id]
        row.steps.append(step)
        row.error = row.error or (step.record.error if step.record.state == StepState.FAILED else "")
    return list(rows.values())


@dataclass(slots=True)
class StepView:
    """The current attempt of a step, as pages show it, with those before it and the reports of them all."""

    record: Step
    title: str
    short: str
    badge: Badge
    sentence: str
    hint: str
    older: list[Step] = field(default_factory=list)
    report: JobReport | None = None
    reports: list[JobReport] = field(default_factory=list)

    @property
    def queue_s(self) -> float | None:
        """How long it has waited, or waits, in the queue."""
        return _between(self.record.queued_at, self.record.started_at or self.record.ended_at)

    @property
    def work_s(self) -> float | None:
        """How long it has worked, or works."""
        return _between(self.record.started_at, self.record.ended_at)


def current_steps(steps: Iterable[Step]) -> list[StepView]:
    """One view for each run and step, in the order of the pipeline; ``steps`` come by rising attempt."""
    views: dict[tuple[int, str], StepView] = {}
    for step in steps:
        before = views.get((step.run_id, step.name))
        views[step.run_id, step.name] = StepView(
            record=step,
            title=step_title(step.name),
            short=STEPS[step.name][2] if step.name in STEPS else step_title(step.name),
            badge=step_badge(step.name, step.state),
            sentence=STEP_SENTENCES.get(StepState(step.state), "") if step.state in set(StepState) else "",
            hint=hint(step.error),
            older=[*before.older, before.record] if before else [],
        )
    order = {name: place for place, name in enumerate(STEP_ORDER)}
    return sorted(views.values(), key=lambda view: order.get(view.record.name, len(order)))


@dataclass(slots=True)
class RunView:
    """A run with everything that its page shows from the database."""

    run: Run
    badge: Badge
    steps: list[StepView]
    events: list[Event]
    files: list[RunFile]
    previous: int | None
    next: int | None
    more_events: bool
    beamline: Beamline

    @property
    def has_logs(self) -> bool:
        """Whether a current attempt has left a log."""
        return any(step.report is not None and getattr(step.report, "log_bytes", 0) for step in self.steps)

    @property
    def plot_note(self) -> str:
        """What to know of a plot that is shown: it may be of an earlier attempt than the one that the steps tell of."""
        if self.run.state in (RunState.ACQUIRING, RunState.TRANSLATING):
            return "The run's file is not there yet; a plot shown here is the live one."
        reduction = next((step.record for step in self.steps if step.record.name == StepName.REDUCE), None)
        if reduction is None or reduction.attempt == 1 or reduction.state == StepState.COMPLETE:
            return ""
        if reduction.state == StepState.FAILED:
            return "The newest reduction has failed; a plot shown here is of an earlier one."
        return "A new reduction is not done yet; a plot shown here is of an earlier one."

    @property
    def name(self) -> str:
        """``FACILITY/INSTRUMENT/NUMBER``."""
        return f"{self.run.instrument}/{self.run.run_number}"


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file of a run: the raw one, or one that a job has reported."""

    path: str
    size: int | None
    kind: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


def find_run(facility: str, name: str, run_number: int) -> Run | None:
    """A run by its names in any case and its number, with ``previous`` and ``next`` numbers of its instrument."""
    if run_number > _LARGEST:
        return None
    of_instrument = Run.objects.filter(instrument=OuterRef("instrument"))
    before = of_instrument.filter(run_number__lt=OuterRef("run_number")).order_by("-run_number")
    after = of_instrument.filter(run_number__gt=OuterRef("run_number")).order_by("run_number")
    return (
        Run.objects.filter(instrument__facility=facility.upper(), instrument__name=name.upper(), run_number=run_number)
        .select_related("instrument", "experiment")
        .annotate(previous=Subquery(before.values("run_number")[:1]), next=Subquery(after.values("run_number")[:1]))
        .first()
    )


def run_view(run: Run, *, with_events: bool = True) -> RunView:
    """What a page shows of a run that :func:`find_run` has found. Three queries."""
    steps = current_steps(Step.objects.filter(run=run).order_by("attempt"))
    reports = list(_reports(run))
    for view in steps:
        view.reports = [report for report in reports if report.step == view.record.name]
        current = [report for report in view.reports if report.attempt in (None, view.record.attempt)]
        view.report = current[-1] if current else None
    events = list(Event.objects.filter(run=run).order_by("-id")[: _STORY + 1]) if with_events else []
    extra: Any = run
    return RunView(
        run=run,
        badge=run_badge(run.state),
        steps=steps,
        events=events[:_STORY],
        files=_files(run, reports),
        previous=extra.previous,
        next=extra.next,
        more_events=len(events) > _STORY,
        beamline=beamline_of(run) if with_events else Beamline(),
    )


@dataclass(frozen=True, slots=True)
class Notice:
    """What people have to know of a run."""

    text: str
    tone: str


@dataclass(slots=True)
class Beamline:
    """What the beamline has told of a run: when it began and stopped, when its file came, what went wrong."""

    began: datetime | None = None
    stopped: datetime | None = None
    arrived: datetime | None = None
    notices: list[Notice] = field(default_factory=list)

    @property
    def recorded_s(self) -> float | None:
        """How long events were taken, or are being taken."""
        return _between(self.began, self.stopped or self.arrived)

    @property
    def translated_s(self) -> float | None:
        """How long it took from the end of the run to its file, or takes."""
        return _between(self.stopped, self.arrived)


def beamline_of(run: Run) -> Beamline:
    """One query: few messages of a run are the beamline's."""
    told = Event.objects.filter(run=run).filter(
        Q(destination__endswith=f".{combus.RUNS}") | Q(destination=POSTPROCESS_DATA_READY)
    )
    found = Beamline()
    gaps: list[Notice] = []
    trouble: Notice | None = None
    for event in told.order_by("id")[:_BEAMLINE]:
        reason = event.information
        if event.destination == POSTPROCESS_DATA_READY:
            found.arrived = found.arrived or event.received_at
        elif reason.startswith(acquisition.STARTED):
            found.began = found.began or event.received_at
        elif reason.startswith(acquisition.STOPPED) and found.arrived is None:
            found.stopped = event.received_at
        elif reason.startswith(combus.GAP):
            gaps.append(Notice(f"Data is missing in this run: {reason.removeprefix(combus.GAP).strip()}", "warn"))
        elif reason.startswith(acquisition.NEEDS_HANDS):
            trouble = Notice(f"The run's file could not be made. {reason}", "bad")
        elif reason.startswith(acquisition.TROUBLE):
            trouble = Notice(f"The run's file is not made yet; it is tried again. {reason}", "warn")
        elif reason.startswith(acquisition.TRANSLATED):
            trouble = None
    found.notices = gaps[:_NOTICES]
    if len(gaps) > _NOTICES:
        found.notices.append(Notice(f"Data is missing {len(gaps) - _NOTICES} times more; see the story.", "warn"))
    if trouble is not None and run.cycle == 0:
        found.notices.append(trouble)
    return found


def _reports(run: Run) -> QuerySet[JobReport]:
    """A run's reports without their logs, but with the length of each."""
    length: Func = Func(F("log"), function="octet_length", output_field=IntegerField())
    return JobReport.objects.filter(run=run).defer("log").annotate(log_bytes=length).order_by("id")


def reported_files(run: Run) -> list[RunFile]:
    """The files that the jobs of a run have written."""
    return _files(run, _reports(run))


def _files(run: Run, reports: Iterable[JobReport]) -> list[RunFile]:
    """The raw file, then those of the newest report of each step; of equal names the newest."""
    newest = {report.step: report for report in reports}
    found = {}
    for report in newest.values():
        for entry in report.files if isinstance(report.files, list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("path"), str) and entry["path"]:
                count = entry.get("size")
                file = RunFile(
                    entry["path"], count if isinstance(count, int) else None, str(entry.get("kind", "other"))
                )
                found[file.name] = file
    raw = [RunFile(run.data_file, _size_of(run.data_file), "raw")] if run.data_file else []
    return raw + sorted(found.values(), key=lambda file: (file.kind != "reduced", file.name))


def _size_of(path: str) -> int | None:
    """The size of a file in bytes; None where it is gone."""
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service's last heartbeat, and what its age says."""

    status: ServiceStatus
    badge: Badge

    @property
    def name(self) -> str:
        """What people call it: by itself, or as a process of an instrument."""
        return f"{self.status.role} of {self.status.instrument}" if self.status.instrument else self.status.name


def services() -> list[ServiceRow]:
    """All services that send heartbeats. One query."""
    now = timezone.now()
    return [
        ServiceRow(status, freshness(now - status.last_seen, status.instrument))
        for status in ServiceStatus.objects.exclude(instrument=PROBE).order_by(
            "facility", "instrument", "role", "name"
        )[:500]
    ]


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return ((end or timezone.now()) - start).total_seconds() if start else None
