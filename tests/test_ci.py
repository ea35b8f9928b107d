"""The check that no test was skipped that has to run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[1] / "tools" / "check_skips.py"
REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_runs"/>
<testcase classname="tests.a" name="test_is_known_to_fail"><skipped type="pytest.xfail" message="known"/></testcase>
<testcase classname="tests.a" name="test_landlock[x]"><skipped type="pytest.skip" message="no Landlock here"/></testcase>
<testcase classname="tests.b" name="test_browser"><skipped type="pytest.skip" message="no browser"/></testcase>
</testsuite></testsuites>"""


def check(folder: Path, report: str, allowed: str) -> subprocess.CompletedProcess[str]:
    (folder / "report.xml").write_text(report)
    (folder / "allowed.txt").write_text(allowed)
    command = [sys.executable, str(CHECK), str(folder / "report.xml"), str(folder / "allowed.txt")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_skipped_test_fails_the_check(tmp_path: Path) -> None:
    done = check(tmp_path, REPORT, "# kernel\n\n*: no Landlock here\n")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["skipped, but has to run: tests.b::test_browser: no browser"]


def test_a_test_that_may_be_skipped_does_not(tmp_path: Path) -> None:
    assert check(tmp_path, REPORT, "*no Landlock here\ntests.b::*\n").returncode == 0


def test_a_report_without_tests_fails_the_check(tmp_path: Path) -> None:
    assert check(tmp_path, "<testsuites/>", "").returncode == 1
