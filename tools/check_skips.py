"""Fails where a test was skipped that has to run: ``check_skips.py REPORT.xml ALLOWED.txt``.

The report is pytest's (``--junitxml``). The list holds one shell pattern a line for ``module::test: reason``; empty lines and
lines that begin with ``#`` count for nothing.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree


def skipped_tests(report: Path) -> tuple[int, list[str]]:
    """How many tests the report holds, and ``module::test: reason`` of each that was skipped."""
    tests, skipped = 0, []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - as above
        tests += 1
        skip = case.find("skipped")
        # An expected failure has run.
        if skip is not None and skip.get("type") != "pytest.xfail":
            skipped.append(f"{case.get('classname')}::{case.get('name')}: {skip.get('message', '')}")
    return tests, skipped


def main(report: str, allowed: str) -> int:
    """0 where every test has run, or may be skipped."""
    lines = (line.strip() for line in Path(allowed).read_text().splitlines())
    patterns = [line for line in lines if line and not line.startswith("#")]
    tests, skipped = skipped_tests(Path(report))
    wrong = [test for test in skipped if not any(fnmatchcase(test, pattern) for pattern in patterns)]
    for test in wrong:
        print(f"skipped, but has to run: {test}", file=sys.stderr)
    if tests == 0:
        print("no test has run", file=sys.stderr)
    return 1 if wrong or tests == 0 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
