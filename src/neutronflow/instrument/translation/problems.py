"""What in a stream could not be used: named, counted, and bounded however bad the stream is."""

from __future__ import annotations

from typing import Final

#: More kinds of problems than this are only counted together.
MOST_KINDS: Final = 100
_FURTHER: Final = "problems of further kinds"


class Problems:
    """Problems in words, with how often each occurred."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, problem: str, times: int = 1) -> None:
        """Note that a problem occurred."""
        if problem not in self._counts and len(self._counts) >= MOST_KINDS:
            problem = _FURTHER
        self._counts[problem] = self._counts.get(problem, 0) + times

    def as_dict(self) -> dict[str, int]:
        """Problem -> how often."""
        return dict(self._counts)
