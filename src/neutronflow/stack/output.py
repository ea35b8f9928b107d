"""The merged log on the terminal, and one file a service."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

_BYTES_A_FILE = 10 * 2**20
_FILES_KEPT = 3
#: Lines of services hold what came from outside: nothing in them may steer the terminal.
_HARMLESS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")}
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


class Output:
    """Takes lines of services, and shows and keeps them."""

    def __init__(self, folder: Path, terminal: TextIO | None = None, *, quiet: bool = False) -> None:
        self._folder = folder
        self._terminal = terminal if terminal is not None else sys.stderr
        self._colour = self._terminal.isatty()
        self._quiet = quiet
        self._files: dict[str, RotatingFileHandler] = {}

    def path(self, service: str) -> Path:
        """The log file of a service."""
        return self._folder / f"{service}.log"

    def line(self, service: str, text: str) -> None:
        """Take one line of a service."""
        handler = self._files.get(service)
        if handler is None:
            handler = RotatingFileHandler(
                self.path(service),
                maxBytes=_BYTES_A_FILE,
                backupCount=_FILES_KEPT,
                encoding="utf-8",
                errors="replace",
                delay=True,
            )
            handler.setFormatter(logging.Formatter("%(message)s"))
            # A full disk must not end the supervisor, nor fill the terminal.
            handler.handleError = lambda _record: None  # type: ignore[method-assign, assignment]
            self._files[service] = handler
        handler.handle(logging.LogRecord(service, logging.INFO, "", 0, "%s", (text,), None))
        if not self._quiet:
            self._show(service, text)

    def close(self) -> None:
        """Close the files."""
        for handler in self._files.values():
            handler.close()

    def _show(self, service: str, text: str) -> None:
        label, text = f"{service:<16}", text.translate(_HARMLESS)
        if self._colour:
            number = _COLOURS[list(self._files).index(service) % len(_COLOURS)]
            label = f"\x1b[{number}m{label}\x1b[0m"
        try:
            self._terminal.write(f"{label} {text}\n")
            self._terminal.flush()
        except OSError:
            self._quiet = True  # the terminal is gone; the files remain
