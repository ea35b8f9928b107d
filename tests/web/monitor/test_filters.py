from __future__ import annotations

from datetime import UTC, datetime

import pytest

from neutronflow.web.monitor.filters import Cursor, RunSearch, chosen_states, cursor_text


def test_numbers_ranges_and_experiments_are_understood_in_any_mixture() -> None:
    found = RunSearch.of(" 1001, 1230-1200;ipts-77  5..7 ")
    assert found.ranges == ((1001, 1001), (1200, 1230), (5, 7))
    assert found.experiments == ("IPTS-77",)
    assert not found.problem


@pytest.mark.parametrize("text", ["'; DROP TABLE run", "<b>", "1-2-3.5", "x" * 200, "\0"])
def test_what_is_not_understood_is_said_and_filters_nothing(text: str) -> None:
    found = RunSearch.of(text)
    assert found.problem
    assert not found.ranges
    assert not found.experiments


def test_too_many_words_are_refused() -> None:
    assert "At most" in RunSearch.of(" ".join(str(number) for number in range(60))).problem


def test_a_cursor_reads_what_it_has_written() -> None:
    at = datetime(2026, 11, 25, 8, 0, 1, 234567, tzinfo=UTC)
    assert Cursor.of("older", cursor_text(at, 42)) == Cursor("older", at, 42)


@pytest.mark.parametrize(
    "text", ["", "x", "2026-11-25T08:00:00_1", "2026-11-25T08:00:00+00:00_", "2026-11-25T08:00:00+00:00_²"]
)
def test_a_cursor_that_is_none_is_ignored(text: str) -> None:
    assert Cursor.of("older", text) is None


def test_only_states_of_runs_are_chosen() -> None:
    assert chosen_states(["failed", "nonsense", "' OR 1=1"]) == ("failed",)
