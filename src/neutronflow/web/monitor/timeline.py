"""When the steps of a run waited and worked, as bars of a drawing 1000 units wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone

from neutronflow.web.monitor.reading import StepView

_WIDTH = 1000.0
_LEAST = 4.0
_ROW = 22


@dataclass(frozen=True, slots=True)
class Bar:
    """One step: where its wait begins, and where and how long it works, in units."""

    title: str
    tone: str
    y: int
    wait_x: float
    wait_width: float
    work_x: float
    work_width: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """All bars, the height of the drawing, and how long it is in time."""

    bars: Sequence[Bar]
    height: int
    seconds: float


def timeline(steps: Sequence[StepView]) -> Timeline | None:
    """The current attempts on one axis; None while nothing has begun."""
    now = timezone.now()
    known = [step for step in steps if step.record.queued_at is not None]
    starts = [step.record.queued_at for step in known if step.record.queued_at]
    if not starts:
        return None
    zero = min(starts)
    whole = max(((step.record.ended_at or now) - zero).total_seconds() for step in known) or 1.0
    bars = []
    for row, step in enumerate(known):
        record = step.record
        queued = ((record.queued_at or zero) - zero).total_seconds()
        end = ((record.ended_at or now) - zero).total_seconds()
        start = (record.started_at - zero).total_seconds() if record.started_at else end
        scale = _WIDTH / whole
        work = max(_LEAST, (end - start) * scale) if record.started_at else 0.0
        bars.append(
            Bar(
                title=step.title,
                tone=step.badge.tone,
                y=row * _ROW + 4,
                wait_x=round(queued * scale, 1),
                wait_width=round(max(0.0, start - queued) * scale, 1),
                work_x=round(min(start * scale, _WIDTH - work), 1),
                work_width=round(work, 1),
            )
        )
    return Timeline(bars, len(known) * _ROW, whole)
