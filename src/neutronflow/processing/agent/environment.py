"""The environment of a job: what is on the list, and nothing else of the agent's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: What jobs get of the agent's environment. Never its secrets or the supervisor's socket.
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ")


def job_environment(
    agent: Mapping[str, str], home: Path, scratch: Path, publishing: Mapping[str, str]
) -> dict[str, str]:
    """A job's environment: the agent's as far as :data:`PASSED_ON`, its own folders, and what the plot client reads."""
    environment = {name: agent[name] for name in PASSED_ON if name in agent}
    environment.setdefault("LANG", "C.UTF-8")
    environment.update(HOME=str(home), TMPDIR=str(scratch), PYTHONUNBUFFERED="1")
    if agent.get("PYTHONPATH"):
        # Relative entries are relative to where the agent was started, the job runs in its output folder.
        entries = agent["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries if entry)
    environment.update(publishing)
    return environment
