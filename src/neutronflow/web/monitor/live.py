"""What an instrument does now, as its services tell: state, counts, alarms, process variables, each with its age.

A fixed number of queries, whatever there is. All texts come from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Exists, OuterRef
from django.utils import timezone

from neutronflow.domain.workflow.states import RunState
from neutronflow.store.models import (
    PV,
    Instrument,
    MonitoredPV,
    Run,
    ServiceStatus,
    Signal,
    StatusHistory,
    StatusValue,
)
from neutronflow.web.monitor.words import (
    IDLE,
    NO_CONTACT,
    NO_STREAM,
    PAUSED,
    RECORDING,
    Badge,
    alarm_badge,
    freshness,
    signal_badge,
)

#: dasmon tells something every 4 s, and that it is there every 5 s; after this silence nothing of it is of now.
CONTACT_S: Final = 30.0
#: Metrics come every 4 s.
METRIC_S: Final = 20.0
_LONG_GONE = timedelta(hours=1)
_MAX_PVS = 500
_MAX_VALUES = 600
_MAX_SIGNALS = 200
_COURSE = timedelta(minutes=15)
_MAX_POINTS = 600
_COURSE_WIDTH, _COURSE_HEIGHT = 300.0, 40.0

#: What the state of an instrument is derived from.
_STATE_KEYS = ("recording", "paused", "connected", "run_number", "count_rate", "simulated")
#: key -> (name on pages, unit, factor): the numbers that people look for, in this order.
_COUNTS: Mapping[str, tuple[str, str, float]] = {
    "count_rate": ("Count rate", "1/s", 1.0),
    "total_counts": ("Counts", "", 1.0),
    # Picocoulombs, as all charges of the stream.
    "total_charge": ("Proton charge", "mC", 1e-9),
    "total_time": ("Time", "s", 1.0),
    "pulse_charge": ("Charge per pulse", "pC", 1.0),
    "pulse_freq": ("Pulses", "Hz", 1.0),
}
_MONITOR = "monitor_count_"
#: What else is repeated with every metric; other keys are told when they change.
_METRICS = frozenset([*_COUNTS, "pixel_error_rate", "stream_bps", "pixel_error_count", "dup_pulse_count",
                      "pulse_veto_count", "mapping_error_count", "missing_rtdl_count", "total_pulses_count"])  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """What an instrument does: badge, word for programs, since when there is no contact, which run it records."""

    word: str
    badge: Badge
    contact_at: datetime
    is_lost: bool
    run_number: int | None
    simulated: bool

    @property
    def lost_at(self) -> datetime | None:
        """Since when nothing is of now; None while there is contact."""
        return self.contact_at if self.is_lost else None


@dataclass(frozen=True, slots=True)
class Fact:
    """A number or text of an instrument, its age, and after how many seconds it is stale."""

    key: str
    name: str
    text: str
    unit: str
    at: datetime
    stale_s: float


@dataclass(frozen=True, slots=True)
class SignalRow:
    """An asserted alarm."""

    record: Signal
    badge: Badge


@dataclass(frozen=True, slots=True)
class PVRow:
    """A process variable as pages show it."""

    record: PV
    text: str
    badge: Badge
    watched: bool
    #: It is told when it changes, so its age alone says nothing against it.
    stale_s: float = math.inf


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process of the instrument and how fresh its last word is."""

    record: ServiceStatus
    badge: Badge


@dataclass(slots=True)
class LiveView:
    """An instrument now. ``state`` is None where nothing was ever told."""

    instrument: Instrument
    state: State | None = None
    run: Run | None = None
    values: Mapping[str, StatusValue] = field(default_factory=dict)
    counts: list[Fact] = field(default_factory=list)
    others: list[Fact] = field(default_factory=list)
    signals: list[SignalRow] = field(default_factory=list)
    pvs: list[PVRow] = field(default_factory=list)
    more_pvs: bool = False
    processes: list[ProcessRow] = field(default_factory=list)
    #: The count rate of the last quarter of an hour at most, as the points of a line, and how long that is in seconds.
    course: str = ""
    course_s: float = 0.0

    @property
    def simulated(self) -> bool:
        """Whether it is a simulated beamline."""
        return self.state is not None and self.state.simulated

    @property
    def watched(self) -> list[PVRow]:
        """The variables that the instrument's people want to see first."""
        return [row for row in self.pvs if row.watched]

    @property
    def unwatched(self) -> list[PVRow]:
        """All others."""
        return [row for row in self.pvs if not row.watched]

    @property
    def title(self) -> str:
        """The title of the run that is recorded."""
        return self._text("run_title")

    @property
    def proposal(self) -> str:
        """Its experiment."""
        return self._text("proposal_id")

    def _text(self, key: str) -> str:
        return self.values[key].value if key in self.values else ""


def state_of(values: Mapping[str, StatusValue], heard: Iterable[datetime]) -> State | None:
    """The state by what an instrument has told, and when anything was heard of it; None where nothing was."""
    heard = [*heard, *(value.at for value in values.values())]
    if not heard:
        return None
    now, contact = timezone.now(), max(heard)
    lost = (now - contact).total_seconds() > CONTACT_S
    told = {key: value.value.strip().lower() for key, value in values.items()}
    number = told.get("run_number", "")
    recording = told.get("recording") == "true"
    run_number = int(number) if recording and number.isascii() and number.isdigit() and len(number) < 19 else None
    if lost:
        tone = "idle" if now - contact > _LONG_GONE else "warn"
        word, badge = "no contact", Badge(NO_CONTACT.text, NO_CONTACT.icon, tone)
    elif told.get("connected") == "false":
        word, badge = "no stream", NO_STREAM
    elif recording and told.get("paused") == "true":
        word, badge = "paused", PAUSED
    elif recording:
        word, badge = "recording", RECORDING
    else:
        word, badge = "idle", IDLE
    return State(word, badge, contact, lost, run_number or None, told.get("simulated") == "true")


def states(instruments: Sequence[Instrument]) -> tuple[dict[int, State], dict[int, StatusValue]]:
    """The states of these instruments, and their count rates, by instrument id. Two queries."""
    values: dict[int, dict[str, StatusValue]] = {}
    for value in StatusValue.objects.filter(instrument__in=instruments, key__in=_STATE_KEYS):
        values.setdefault(value.instrument_id, {})[value.key] = value
    heard = {
        (service.facility, service.instrument): service.last_seen
        for service in ServiceStatus.objects.filter(role="DASMON").exclude(instrument="")[:500]
    }
    found = {}
    for one in instruments:
        last = heard.get((one.facility, one.name))
        state = state_of(values.get(one.pk, {}), [last] if last else [])
        if state is not None:
            found[one.pk] = state
    return found, {key: told["count_rate"] for key, told in values.items() if "count_rate" in told}


def live_view(instrument: Instrument) -> LiveView:
    """Everything that an instrument's page shows of now. Six queries."""
    values = {value.key: value for value in StatusValue.objects.filter(instrument=instrument)[:_MAX_VALUES]}
    services = ServiceStatus.objects.filter(facility=instrument.facility, instrument=instrument.name)
    processes = list(services.order_by("role")[:20])
    watched = Exists(MonitoredPV.objects.filter(instrument=OuterRef("instrument"), name=OuterRef("name")))
    found: list[Any] = list(
        PV.objects.filter(instrument=instrument).annotate(watched=watched).order_by("-watched", "name")[: _MAX_PVS + 1]
    )
    heard = [pv.at for pv in found] + [one.last_seen for one in processes if one.role == "DASMON"]
    state = state_of(values, heard)
    signals = Signal.objects.filter(instrument=instrument).order_by("-level", "name")[:_MAX_SIGNALS]
    facts = [_fact(key, value) for key, value in values.items()]
    order = {key: place for place, key in enumerate(_COUNTS)}
    counts = [fact for fact in facts if fact.key in _COUNTS or fact.key.startswith(_MONITOR)]
    course, course_s = _course(instrument) if "count_rate" in values else ("", 0.0)
    return LiveView(
        instrument=instrument,
        state=state,
        run=_run_of(instrument, state),
        values=values,
        counts=sorted(counts, key=lambda fact: (order.get(fact.key, len(order)), len(fact.key), fact.key)),
        others=sorted((fact for fact in facts if fact not in counts), key=lambda fact: fact.key),
        signals=[SignalRow(signal, signal_badge(signal.level)) for signal in signals],
        pvs=[PVRow(pv, pv_text(pv), alarm_badge(pv.status, pv.severity), pv.watched) for pv in found[:_MAX_PVS]],
        more_pvs=len(found) > _MAX_PVS,
        processes=[ProcessRow(one, freshness(timezone.now() - one.last_seen, one.instrument)) for one in processes],
        course=course,
        course_s=course_s,
    )


def _run_of(instrument: Instrument, state: State | None) -> Run | None:
    """The run that is being recorded, where it is known here."""
    runs = Run.objects.filter(instrument=instrument).select_related("experiment")
    if state is not None and state.run_number is not None:
        return runs.filter(run_number=state.run_number).first()
    if state is None:
        return runs.filter(state=RunState.ACQUIRING).order_by("-created_at", "-id").first()
    return None


def _fact(key: str, value: StatusValue) -> Fact:
    name, unit, factor = _COUNTS.get(key, (key, "", 1.0))
    stale_s = METRIC_S if key in _METRICS or key.startswith(_MONITOR) else math.inf
    if key.startswith(_MONITOR):
        name, unit = f"Monitor {key.removeprefix(_MONITOR)}", "1/s"
    is_number = key in _COUNTS or key.startswith(_MONITOR)
    text = number_text(value.value, factor) if is_number else value.value
    return Fact(key, name, text, unit, value.at, stale_s)


def number_text(text: str, factor: float = 1.0) -> str:
    """A number from outside as people read it; anything else as it came."""
    try:
        number = float(text) * factor
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    if abs(number) >= 1e15 or 0 < abs(number) < 1e-4:
        return f"{number:.4g}"
    # Thousands are not said in powers of ten.
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 1000 else f"{number:.4g}"


def pv_text(pv: PV) -> str:
    """The value of a process variable as text."""
    if pv.text is not None and pv.number is not None:
        return f"{pv.text} ({pv.number:g})"
    if pv.number is not None:
        return f"{pv.number:.7g}"
    return (pv.text or "")[:1000]


def _course(instrument: Instrument) -> tuple[str, float]:
    now = timezone.now()
    rows = StatusHistory.objects.filter(instrument=instrument, key="count_rate", at__gt=now - _COURSE)
    points = list(rows.order_by("-at").values_list("at", "value")[:_MAX_POINTS])
    if len(points) < 2:
        return "", 0.0
    top = max(value for _, value in points) or 1.0
    whole = max((now - points[-1][0]).total_seconds(), 1.0)
    drawn = " ".join(
        f"{_COURSE_WIDTH * (1 - (now - at).total_seconds() / whole):.1f},"
        f"{_COURSE_HEIGHT - 1 - (_COURSE_HEIGHT - 2) * max(value, 0.0) / top:.1f}"
        for at, value in points
    )
    return drawn, whole


def as_json(view: LiveView) -> dict[str, Any]:
    """The view for programs; times are ISO 8601."""
    state = view.state
    return {
        "facility": view.instrument.facility,
        "instrument": view.instrument.name,
        "state": state.word if state else "unknown",
        "contact_at": state.contact_at if state else None,
        "stale": state.is_lost if state else None,
        "simulated": view.simulated,
        "run_number": state.run_number if state else None,
        "page_url": f"/instruments/{view.instrument}/",
        "values": {key: {"value": value.value, "at": value.at} for key, value in sorted(view.values.items())},
        "signals": [
            {key: getattr(row.record, key) for key in ("name", "source", "message", "level", "at")}
            for row in view.signals
        ],
        "pvs": [_pv_json(row) for row in view.pvs],
        "more_pvs": view.more_pvs,
        "processes": [
            {"process": row.record.role, "status": row.record.status, "pid": row.record.pid, "at": row.record.last_seen}
            for row in view.processes
        ],
    }


def _pv_json(row: PVRow) -> dict[str, Any]:
    pv = row.record
    number = pv.number if pv.number is not None and math.isfinite(pv.number) else None
    values = {key: getattr(pv, key) for key in ("name", "units", "status", "severity", "at")}
    # JSON knows no infinity; it is told as text.
    text = pv.text if pv.text is not None or number is not None else row.text
    return {**values, "number": number, "text": text, "monitored": row.watched}
