"""Why a script failed, in one line, from how it ended and from the end of its standard error."""

from __future__ import annotations

import re
import signal

from neutronflow.processing.executors.local import JobResult

_EXCEPTION = re.compile(r"(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Failure)(?:: .*)?\Z")
_ERROR = re.compile(r"\b[Ee]rror: (?P<text>.*\S)")
_NOTHING = re.compile(r"[\s\-=*~^|]*\Z")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def why_failed(result: JobResult) -> str | None:
    """``None`` for success (exit code 0, whatever stands on standard error), else the reason and how the job ended."""
    if result.reason == "time-limit":
        return result.err_tail.rstrip().rpartition("\n")[2]
    if result.exit_code == 0 and not result.reason:
        return None
    cause = _cause(_ANSI.sub("", result.err_tail).splitlines())
    return f"{cause} ({_ending(result)})" if cause else _ending(result)


def _ending(result: JobResult) -> str:
    if result.signal is not None:
        try:
            return f"killed by signal {result.signal}, {signal.Signals(result.signal).name}"
        except ValueError:
            return f"killed by signal {result.signal}"
    return f"exit code {result.exit_code}"


def _cause(lines: list[str]) -> str:
    """The last line that names an exception or begins with "Error: ", else the last line that says anything."""
    for line in reversed(lines):
        if _EXCEPTION.match(line):
            return line.strip()
        found = _ERROR.search(line)
        if found:
            return found["text"]
    return next((line.strip() for line in reversed(lines) if not _NOTHING.match(line)), "")
