"""What a person types into the search of a list of runs, and where a page of it begins. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from neutronflow.domain.workflow.states import RunState

_LARGEST = 2**63 - 1
_MAX_RANGES = 50
_RANGE = re.compile(r"(\d{1,18})(?:(?:-|\.\.|–)(\d{1,18}))?\Z")
_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class RunSearch:
    """Run numbers (first, last), experiments, and what could not be understood."""

    text: str = ""
    ranges: tuple[tuple[int, int], ...] = ()
    experiments: tuple[str, ...] = ()
    problem: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``1200-1230, 1250 IPTS-77``: numbers, ranges and experiments in any mixture."""
        ranges, experiments = [], []
        for word in re.split(r"[,;\s]+", text.strip()[:400]):
            number = _RANGE.match(word)
            if number:
                first, last = int(number[1]), int(number[2] or number[1])
                ranges.append((min(first, last), min(max(first, last), _LARGEST)))
            elif _EXPERIMENT.match(word):
                experiments.append(word.upper())
            elif word:
                return cls(
                    text,
                    problem=f"“{word[:40]}” is neither a run number, a range such as 1200-1230, nor an experiment.",
                )
        if len(ranges) + len(experiments) > _MAX_RANGES:
            return cls(text, problem=f"At most {_MAX_RANGES} numbers, ranges and experiments at once.")
        return cls(text, tuple(ranges), tuple(experiments))


@dataclass(frozen=True, slots=True)
class Cursor:
    """The run at the edge of a page: pages go on from there, however many runs have come since."""

    way: Literal["older", "newer"]
    created_at: datetime
    run_id: int

    @classmethod
    def of(cls, way: Literal["older", "newer"], text: str) -> Self | None:
        """Read what :meth:`__str__` wrote; None for anything else."""
        moment, _, number = text.rpartition("_")
        try:
            created_at = datetime.fromisoformat(moment)
        except ValueError:
            return None
        if created_at.tzinfo is None or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return cls(way, created_at, int(number))


def cursor_text(created_at: datetime, run_id: int) -> str:
    """A place in a list of runs, for an address."""
    return f"{created_at.isoformat()}_{run_id}"


def chosen_states(values: list[str]) -> tuple[str, ...]:
    """Those of the values that are states of runs."""
    return tuple(state.value for state in RunState if state.value in values)
