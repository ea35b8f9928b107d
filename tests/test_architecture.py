"""What holds the house together: imports go one way, and the pins of both lock files agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Names of packages mean the same with either.
_SPELLING = str.maketrans("_.", "--")


def test_imports_go_one_way() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def pins(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(package.lower().translate(_SPELLING), set()).add(version)
    return found


def test_the_lock_of_development_has_the_same_pins_and_more() -> None:
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime.keys() < development.keys()
    assert {name: development[name] for name in runtime} == runtime


def test_every_dependency_is_pinned_with_hashes_and_names_no_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["embedded"], *extras["reduction"], *extras["checkout"]]
    for lock, requirements in [("requirements.lock", wanted), ("requirements-dev.lock", [*wanted, *extras["dev"]])]:
        names = {re.split(r"[\[>=~ ]", requirement)[0].translate(_SPELLING).lower() for requirement in requirements}
        assert names - pins(lock).keys() == set()
        text = (ROOT / lock).read_text()
        assert "://" not in text
        # Each pin is followed by its hashes.
        assert len(re.findall(r"==.*\\\n +--hash=sha256:", text)) == len(re.findall(r"^[^ #].*==", text, re.MULTILINE))


def test_the_makefile_has_at_most_ten_targets_and_names_each() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(targets) <= 10
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in shown.splitlines()] == targets


def test_before_a_commit_the_same_is_checked_as_in_ci() -> None:
    assert "entry: make lint\n" in (ROOT / ".pre-commit-config.yaml").read_text()
    assert "\nmake lint\n" in (ROOT / ".ci" / "run").read_text()
