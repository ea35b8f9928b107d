from __future__ import annotations

import pytest

from neutronflow.processing.executors.local import JobResult
from neutronflow.processing.steps.diagnosis import why_failed

TRACEBACK = 'Traceback (most recent call last):\n  File "reduce_HYS.py", line 3, in <module>\n    1 / 0\n'


def ended(exit_code: int | None = 0, signal: int | None = None, reason: str = "", err: str = "") -> JobResult:
    return JobResult(
        exit_code=exit_code, signal=signal, reason=reason, elapsed_s=1.0, cpu_s=0.5, max_rss_bytes=1, err_tail=err
    )


def test_exit_code_0_is_success_whatever_stands_on_standard_error() -> None:
    assert why_failed(ended(err="Error: not really\nDeprecationWarning: old\n")) is None


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (ended(3), "exit code 3"),
        (ended(3, err="-----\n\n"), "exit code 3"),
        (
            ended(1, err=f"{TRACEBACK}ZeroDivisionError: division by zero\n"),
            "ZeroDivisionError: division by zero (exit code 1)",
        ),
        (ended(1, err=f"{TRACEBACK}numpy.linalg.LinAlgError\n"), "numpy.linalg.LinAlgError (exit code 1)"),
        (ended(1, err="Error: no sample\nlater words\n"), "no sample (exit code 1)"),
        (ended(2, err="usage: reduce\n\x1b[31mbad flag\x1b[0m\n----\n"), "bad flag (exit code 2)"),
        (ended(None, 9), "killed by signal 9, SIGKILL"),
        (ended(None, 64), "killed by signal 64, SIGRTMAX"),
        (
            ended(None, 15, "time-limit", "noise\nTime limit exceeded (12.3 s > 10.0 s). Terminating job.\n"),
            "Time limit exceeded (12.3 s > 10.0 s). Terminating job.",
        ),
    ],
)
def test_the_reason_of_a_failure_is_one_line(result: JobResult, sentence: str) -> None:
    assert why_failed(result) == sentence
