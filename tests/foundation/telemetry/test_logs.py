from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from neutronflow.foundation.telemetry import configure_logging, get_logger
configure_logging("test", fmt={fmt!r})
def fails(password):
    raise ValueError("it failed")
try:
    fails("".join(["s3", "cret"]))
except ValueError:
    get_logger("x").exception("failed", run="SNS/HYS/1")
"""


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_a_traceback_in_the_log_shows_no_local_variables(fmt: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(fmt=fmt)], capture_output=True, text=True, check=True)
    assert "it failed" in done.stderr
    assert "SNS/HYS/1" in done.stderr
    assert "s3cret" not in done.stderr
