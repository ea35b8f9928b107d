"""``up``, ``status``, ``config`` and ``doctor`` as a user calls them; the whole stack itself is in tests/system."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from neutronflow.foundation.config import PORTS, load
from neutronflow.stack import show_config
from neutronflow.stack.services import stack_services
from tests.support.ports import free_offset


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NEUTRONFLOW_DATA_DIR": str(tmp_path / "var"),
        "NEUTRONFLOW_PORT_OFFSET": str(free_offset()),
    }


def call(environ: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neutronflow.cli", *words]
    return subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def held(environ: dict[str, str]) -> Iterator[Path]:
    """A data directory that a supervisor holds (this process)."""
    run = Path(environ["NEUTRONFLOW_DATA_DIR"]) / "run"
    run.mkdir(parents=True)
    (run / "up.lock").write_text(f"{os.getpid()}\n")
    with (run / "up.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield run


def service(name: str, *, ready: bool, **more: Any) -> dict[str, Any]:
    state = "ready" if ready else "starting"
    return {
        "name": name, "pid": os.getpid(), "state": state, "ready": ready, "restarts": 0, "since": 1.0, "status": "",
        "task": False, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("NEUTRONFLOW_BROKER__EXTERNAL", "true", "an external broker"),
        ("NEUTRONFLOW_AGENT__CATALOG_URL", "https://oncat.example/", "the external catalog https://oncat.example/"),
    ],
)
def test_up_keeps_simulated_runs_from_others(environ: dict[str, str], variable: str, value: str, what: str) -> None:
    done = call({**environ, variable: value}, "up", "--check")
    assert done.returncode == 2
    assert f"Simulated runs would go to {what}" in done.stderr
    assert not Path(environ["NEUTRONFLOW_DATA_DIR"]).exists()
    assert call({**environ, variable: value}, "up", "--check", "--force-simulator").returncode == 0
    assert (
        call({**environ, variable: value, "NEUTRONFLOW_BEAMLINE__SIMULATED": "false"}, "up", "--check").returncode == 0
    )


def test_up_can_be_asked_whether_it_could_start(environ: dict[str, str]) -> None:
    done = call(environ, "up", "--check")
    assert done.returncode == 0, done.stderr
    assert "processes can start" in done.stdout


@pytest.mark.parametrize(
    ("port", "named"),
    [("monitor", "monitor"), ("livedata", "livedata"), ("catalog", "catalog"), ("translator", "translator"),
     ("stomp", "broker"), ("postgresql", "postgresql")],
)  # fmt: skip
def test_a_port_in_use_is_named_with_the_service_and_whoever_uses_it(
    environ: dict[str, str], port: str, named: str
) -> None:
    number = PORTS[port] + int(environ["NEUTRONFLOW_PORT_OFFSET"])
    with socket.create_server(("127.0.0.1", number)):
        done = call(environ, "up")
    assert done.returncode == 2
    assert f"Port {number}, which {named} needs, is in use" in done.stderr
    assert f"(process {os.getpid()})" in done.stderr
    assert not (Path(environ["NEUTRONFLOW_DATA_DIR"]) / "postgresql").exists()


def test_ports_of_the_brokers_and_the_databases_own_sections_are_checked(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for variable in ("NEUTRONFLOW_BROKER__PORT", "NEUTRONFLOW_DATABASE__PORT"):
            done = call({**environ, variable: str(taken.getsockname()[1])}, "up", "--check")
            assert done.returncode == 2
            assert f"Port {taken.getsockname()[1]}" in done.stderr


def test_a_second_up_says_that_one_runs_already(environ: dict[str, str], held: Path) -> None:
    done = call(environ, "up")
    assert done.returncode == 2
    assert f"already (process {os.getpid()})" in done.stderr
    assert sorted(path.name for path in held.iterdir()) == ["up.lock"]


def test_settings_that_cannot_be_used_are_named(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[postgresql]\nusre = "someone"\n')
    done = call({**environ, "NEUTRONFLOW_CONFIG": str(file)}, "up")
    assert done.returncode == 2
    assert "usre" in done.stderr
    assert "[postgresql]" in done.stderr


def test_servers_of_ones_own_are_not_started(environ: dict[str, str]) -> None:
    both = {"NEUTRONFLOW_DATABASE__EXTERNAL": "true", "NEUTRONFLOW_BROKER__EXTERNAL": "true"}
    names = {one.name for one in stack_services(load({**environ, **both}), prepared=False)}
    assert not names & {"postgresql", "broker"}
    assert {"manager", "monitor", "prepare-database"} <= names


def test_every_need_of_a_service_is_a_service(environ: dict[str, str]) -> None:
    for prepared in (False, True):
        services = stack_services(load(environ), prepared=prepared)
        names = [one.name for one in services]
        assert len(names) == len(set(names))
        assert {need for one in services for need in one.needs} <= set(names)


def test_status_says_when_nothing_runs(environ: dict[str, str]) -> None:
    done = call(environ, "status")
    assert done.returncode != 0
    assert "No stack is running on the data directory" in done.stderr
    assert not Path(environ["NEUTRONFLOW_DATA_DIR"]).exists()


def test_status_does_not_believe_what_a_dead_supervisor_has_said(environ: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "var" / "run"
    run.mkdir(parents=True)
    (run / "up.lock").write_text("1\n")
    (run / "status.json").write_text(json.dumps({"services": [service("monitor", ready=True)]}))
    assert call(environ, "status").returncode == 2


def test_status_is_well_only_when_every_service_is_ready(environ: dict[str, str], held: Path) -> None:
    states = [service("broker", ready=True), service("monitor", ready=False), service("manager", ready=False, pid=None)]
    (held / "status.json").write_text(json.dumps({"services": states}))
    done = call(environ, "status")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "not ready: monitor, manager"
    for state in states:
        state["ready"] = True
    (held / "status.json").write_text(json.dumps({"services": states}))
    assert call(environ, "status").returncode == 0
    told = json.loads(call(environ, "status", "--json").stdout)
    assert told["ready"] is True
    assert told["services"][0]["name"] == "broker"
    assert told["services"][0]["pss_mb"] > 1
    assert told["services"][2]["pss_mb"] is None
    assert told["services"][0]["uptime_s"] > 1000


def test_status_is_not_well_while_nothing_is_known_yet(environ: dict[str, str], held: Path) -> None:
    assert call(environ, "status").returncode == 1


def test_config_shows_every_section_without_secrets(environ: dict[str, str], tmp_path: Path) -> None:
    secrets = tmp_path / "var" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "db-owner").write_text("hidden-in-a-file")
    environ = {**environ, "NEUTRONFLOW_SECRET_DB_MANAGER": "hidden-too", "NEUTRONFLOW_POSTGRESQL__USER": "someone"}
    done = call(environ, "config", "--json")
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert set(tree) >= {*show_config.SECTIONS, "facilities", "ports"}
    assert tree["postgresql"] == {"user": "someone"}
    assert tree["core"]["archive_root"] == str(tmp_path / "var" / "archive")
    assert tree["ports"]["monitor"] == 8080 + int(environ["NEUTRONFLOW_PORT_OFFSET"])
    readable = call(environ, "config").stdout
    assert '[postgresql]\nuser = "someone"\n' in readable
    assert "hidden" not in done.stdout + readable


def test_doctor_says_what_is_missing_and_how_to_get_it(environ: dict[str, str]) -> None:
    done = call({**environ, "PATH": "", "ARTEMIS_HOME": ""}, "doctor")
    assert done.returncode == 0, done.stdout
    assert "ok      postgresql" in done.stdout
    assert "-       browser            not here." in done.stdout
    assert "apt-get install chromium" in done.stdout
    parts = {part["name"]: part for part in json.loads(call(environ, "doctor", "--json").stdout)["parts"]}
    assert {"artemis", "browser", "slurm", "epics", "scipp", "slapd", "landlock", "namespaces"} <= parts.keys()
