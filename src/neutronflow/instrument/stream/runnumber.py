"""The next run number: it outlives everything."""

from __future__ import annotations

import os
from pathlib import Path


class RunNumbers:
    """Gives run numbers, each once."""

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._first = first

    def take(self) -> int:
        """The next one; that it is taken is on the disk before it is given. Raises OSError or ValueError."""
        number = max(self._first, int(self._path.read_text())) if self._path.exists() else self._first
        partial = self._path.with_suffix(".part")
        with partial.open("w") as file:
            file.write(f"{number + 1}\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        return number
