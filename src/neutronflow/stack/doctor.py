"""``neutronflow doctor``: what of the optional world is here, and how to get the rest."""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neutronflow.stack import launch
from neutronflow.stack.errors import PostgresMissing
from neutronflow.stack.postgres import programs

#: The number of landlock_create_ruleset(2), the same on every machine.
_LANDLOCK_CREATE_RULESET = 444
#: CLONE_NEWUSER and CLONE_NEWNS.
_NEW_MOUNTS_AND_USERS = 0x10000000 | 0x20000


@dataclass(frozen=True, slots=True)
class Part:
    """One optional part: what it is for, how to look for it, how to get it."""

    name: str
    purpose: str
    find: Callable[[], str]
    how: str
    needed: bool = False


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--json", action="store_true", help="print it as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 unless something is missing without which the stack cannot start."""
    found = {part.name: part.find() for part in PARTS}
    lacking = [part for part in PARTS if part.needed and not found[part.name]]
    if args.json:
        rows = [
            {"name": part.name, "found": found[part.name] or None, "purpose": part.purpose, "how": part.how}
            for part in PARTS
        ]
        print(json.dumps({"ok": not lacking, "parts": rows}))
    else:
        for part in PARTS:
            mark = "ok     " if found[part.name] else "MISSING" if part.needed else "-      "
            print(f"{mark} {part.name:<18} {found[part.name] or f'not here. For {part.purpose}: {part.how}'}")
    return 1 if lacking else 0


def _module(name: str) -> Callable[[], str]:
    def find() -> str:
        spec = importlib.util.find_spec(name)
        return f"Python package {name}" if spec else ""

    return find


def _program(*names: str) -> Callable[[], str]:
    return lambda: next((path for name in names if (path := shutil.which(name))), "")


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}" if sys.version_info >= (3, 11) else ""


def _postgresql() -> str:
    try:
        return str(programs())
    except PostgresMissing:
        return ""


def _artemis() -> str:
    home = os.environ.get("ARTEMIS_HOME", "")
    return next((str(path) for path in (Path(home) / "bin" / "artemis",) if home and path.exists()), "")


def _landlock() -> str:
    """Asked of the kernel itself: its list of security modules is not to be seen everywhere."""
    version = ctypes.CDLL(None, use_errno=True).syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)
    return f"version {version} of its interface" if version > 0 else ""


def _namespaces() -> str:
    script = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({_NEW_MOUNTS_AND_USERS}) != 0)"
    done = subprocess.run([sys.executable, "-S", "-E", "-c", script], check=False)
    return "can be made" if done.returncode == 0 else ""


def _capability() -> str:
    if os.geteuid() != 0:
        return "not needed: not root"
    return "can be given" if launch.permitted_search() is not None else ""


PARTS = (
    Part("python", "everything", _python, "install Python 3.11 or newer", needed=True),
    Part(
        "postgresql", "the databases", _postgresql, "pip install 'neutronflow[embedded]', or Debian's postgresql", needed=True
    ),
    Part("scipp", "the reductions that ship", _module("scipp"), "pip install 'neutronflow[reduction]'"),
    Part("browser", "browser tests and screenshots", _program("chromium", "google-chrome"), "apt-get install chromium"),
    Part("playwright", "browser tests", _module("playwright"), "pip install 'neutronflow[dev]'"),
    Part("java", "Artemis and ActiveMQ", _program("java"), "apt-get install default-jre-headless"),
    Part("artemis", "the production broker", _artemis, "Maven Central, apache-artemis; then set ARTEMIS_HOME"),
    Part("slurm", "reduction on a cluster", _program("sbatch"), "apt-get install slurm-client"),
    Part("epics", "process variables from EPICS", _module("caproto"), "pip install caproto"),
    Part("slapd", "tests of LDAP logins", _program("slapd"), "apt-get install slapd"),
    Part("ldap", "LDAP logins", _module("django_auth_ldap"), "pip install 'neutronflow[ldap]'"),
    Part("landlock", "keeping scripts from secrets", _landlock, "a kernel with the Landlock security module"),
    Part("namespaces", "keeping scripts from secrets", _namespaces, "a kernel that lets users make mount namespaces"),
    Part(
        "closed homes", "PostgreSQL under root in a 0700 home", _capability,
        "CAP_DAC_READ_SEARCH or CAP_DAC_OVERRIDE; else PostgreSQL's files lie in /var/lib/neutronflow",
    ),
)  # fmt: skip
