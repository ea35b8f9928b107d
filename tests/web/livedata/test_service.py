"""The live data server as a process: how it starts, ends, and lives through troubles of its database."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.postgres import Cluster, free_port
from tests.support.services import eventually
from tests.support.websites import PlotSite, break_connections, plot_site

DIV = b"<div>a plot</div>"


@pytest.fixture
def place(cluster: Cluster, tmp_path: Path) -> Iterator[PlotSite]:
    with plot_site(tmp_path, cluster) as made:
        yield made


def test_health_is_told_without_a_token(site: PlotSite) -> None:
    answer = site.get("/healthz", headers={})
    assert (answer.status_code, answer.json()["ok"]) == (200, True)


def test_a_restart_of_the_database_is_not_felt(site: PlotSite, run: int, cluster: Cluster) -> None:
    site.upload("HYS", run, DIV)
    path = f"/plots/hys/{run}/update/html/"
    with ThreadPoolExecutor(12) as pool:  # so that the pool has all its connections
        assert {answer.status_code for answer in pool.map(site.get, [path] * 100)} == {200}
    assert break_connections(cluster, "nf_livedata") > 1
    started = time.monotonic()
    assert {site.get(path).status_code for _ in range(10)} == {200}
    assert break_connections(cluster, "nf_livedata") > 1
    assert site.upload("HYS", run, DIV).status_code == 200
    assert break_connections(cluster, "nf_livedata") > 1
    assert site.get("/healthz").status_code == 200
    assert time.monotonic() - started < 5


def test_it_ends_well_on_sigterm_and_the_plots_are_still_there(place: PlotSite) -> None:
    process = place.start("livedata")
    assert place.upload("HYS", 1, DIV).status_code == 200
    with place.http.stream("GET", f"{place.url}/plots/events", headers=place.bearer(), timeout=10) as answer:
        next(answer.iter_lines())
        started = time.monotonic()
        assert place.end(process) == 0
        assert time.monotonic() - started < 5
    process = place.start("livedata")
    assert place.get("/plots/hys/1/update/html/").content == DIV
    assert place.end(process, signal.SIGINT) in (0, 130)


def test_a_killed_server_keeps_what_it_has_accepted(place: PlotSite) -> None:
    process = place.start("livedata")
    assert place.upload("HYS", 1, DIV).status_code == 200
    place.end(process, signal.SIGKILL)
    place.start("livedata")
    assert place.get("/plots/hys/1/update/html/").content == DIV


def test_migrating_again_changes_nothing(site: PlotSite) -> None:
    assert "No migrations to apply" in site.command("--migrate").stderr


def test_a_port_that_is_taken_is_named(site: PlotSite) -> None:
    done = site.command()
    assert done.returncode == 2
    assert f"127.0.0.1:{site.settings.port('livedata')}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("secret", ["LIVEDATA_TOKENS", "SERVICE_TOKEN", "DJANGO_LIVEDATA", "DB_LIVEDATA"])
def test_without_a_secret_it_does_not_start(site: PlotSite, secret: str) -> None:
    done = site.command(**{f"NEUTRONFLOW_SECRET_{secret}": None})
    assert done.returncode == 2
    assert secret.lower().replace("_", "-") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [("KEEP_VERSIONS", "0"), ("MAX_UPLOAD_MB", "-1"), ("MAX_UPLOAD_MB", "many"), ("CORS_ORIGINS", "[")],
)
def test_a_setting_that_cannot_be_is_named(site: PlotSite, key: str, value: str) -> None:
    done = site.command(**{f"NEUTRONFLOW_LIVEDATA__{key}": value})
    assert done.returncode == 2
    assert key.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_it_waits_for_a_database_that_is_not_there_yet(site: PlotSite) -> None:
    environ = {**site.environ, "NEUTRONFLOW_DATABASE__PORT": str(free_port())}
    command = [sys.executable, "-m", "neutronflow.cli", "livedata"]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert "Traceback" not in said


def test_an_empty_secret_is_as_good_as_none(site: PlotSite) -> None:
    done = site.command(NEUTRONFLOW_SECRET_LIVEDATA_READ_KEY="")
    assert done.returncode == 2
    assert "livedata-read-key" in done.stderr


def test_its_memory_is_small_again_after_large_plots(place: PlotSite) -> None:
    process = psutil.Process(place.start("livedata").pid)
    assert process.memory_full_info().pss < 75 * 2**20
    for number in range(6):
        assert place.upload("HYS", number, b"<div>" + b"x" * 15_000_000 + b"</div>").status_code == 200
        assert len(place.get(f"/plots/hys/{number}/update/html/").content) == 15_000_011
    eventually(lambda: process.memory_full_info().pss < 130 * 2**20, "less than 130 MB")


def test_answers_are_not_held_back(site: PlotSite, run: int) -> None:
    """Nagle's algorithm and delayed acknowledgements together make 40 ms an answer of two parts."""
    site.upload("HYS", run, DIV)

    def seconds() -> float:
        started = time.monotonic()
        for _ in range(20):
            site.get(f"/plots/hys/{run}/update/html/")
        return time.monotonic() - started

    assert min(seconds() for _ in range(3)) < 20 * 0.04
