"""How agents end, and what becomes of their jobs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from neutronflow.domain.messages import destinations as names
from tests.support.station import FOREVER, NOTE_PID, Bus, Station, eventually, gone, pid_in, running_station


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Station, Bus]]:
    with running_station(tmp_path_factory.mktemp("station")) as running:
        yield running


#: Runs for ever, except where the run has been begun before.
ENDS_WHEN_REPEATED = (
    "import os, sys\nif os.path.exists('pid'):\n    print('repeated'); sys.exit(0)\n" + NOTE_PID + FOREVER
)


#: Ends once the job of the other run (50 or 51) runs, too.
MEET = """
import os, sys, time
mine, other = ("a", "b") if "_50" in sys.argv[1] else ("b", "a")
open(mine, "w").close()
while not os.path.exists(other):
    time.sleep(0.01)
"""


@pytest.mark.parametrize(("how", "instrument"), [(signal.SIGKILL, "KILLED"), (signal.SIGTERM, "STOPPED")])
def test_the_job_of_an_agent_that_ends_dies_with_it_and_goes_to_another(
    place: tuple[Station, Bus], how: signal.Signals, instrument: str
) -> None:
    station, bus = place
    station.script(instrument, ENDS_WHEN_REPEATED)
    run_number = 30 + how
    first = station.agent("autoreducer1")
    bus.ask(names.REDUCTION_READY, station.command(instrument, run_number))
    job = pid_in(station.outdir(instrument) / "pid")
    second = station.agent("autoreducer2")
    begin = time.monotonic()
    code = station.end(first, how)
    assert time.monotonic() - begin < 5
    assert code == (-9 if how == signal.SIGKILL else 0)
    eventually(lambda: gone(job), "the job is gone", 5)
    complete = bus.answer(names.REDUCTION_COMPLETE, run_number=run_number)
    assert complete["information"] == "autoreducer2"
    started = [
        values["information"] for name, values in bus.heard(run_number=run_number) if name == names.REDUCTION_STARTED
    ]
    assert started == ["autoreducer1", "autoreducer2"]
    station.end(second)


def test_two_agents_share_the_work(place: tuple[Station, Bus]) -> None:
    station, bus = place
    agents = [station.agent("autoreducer3"), station.agent("autoreducer4")]
    station.script("MEET", MEET)
    for run_number in (50, 51):
        bus.ask(names.REDUCTION_READY, station.command("MEET", run_number))
    by = {bus.answer(names.REDUCTION_COMPLETE, run_number=run_number)["information"] for run_number in (50, 51)}
    assert by == {"autoreducer3", "autoreducer4"}
    assert [station.end(agent) for agent in agents] == [0, 0]


def test_a_bad_name_and_a_missing_secret_are_said_in_one_sentence(
    place: tuple[Station, Bus],
) -> None:
    station, _ = place
    command = [sys.executable, "-m", "neutronflow.cli", "agent", "--name"]
    done = subprocess.run(
        [*command, "../x"], env=station.environ, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert "cannot be an agent's name" in done.stderr
    without = {name: value for name, value in station.environ.items() if name != "NEUTRONFLOW_SECRET_CATALOG_TOKEN"}
    done = subprocess.run([*command, "x"], env=without, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "The secret 'catalog-token'" in done.stderr


def test_a_broker_that_is_killed_while_a_job_runs_costs_neither_answers_nor_a_second_execution(
    place: tuple[Station, Bus],
) -> None:
    station, bus = place
    agent = station.agent("autoreducer5")
    station.script(
        "PATIENT",
        f"import os, time\nopen('count', 'a').write('x')\n{NOTE_PID}while not os.path.exists('go'): time.sleep(0.01)\n",
    )
    bus.ask(names.REDUCTION_READY, station.command("PATIENT", 60))
    outdir = station.outdir("PATIENT")
    pid_in(outdir / "pid")
    station.end(station.processes[0], signal.SIGKILL)
    station.start("broker")
    (outdir / "go").touch()
    assert bus.answer(names.REDUCTION_COMPLETE, run_number=60)["information"] == "autoreducer5"
    # A command of the same queue after it: by then the redelivered one has been dealt with.
    bus.ask(names.REDUCTION_READY, station.command("NOSCRIPT", 61))
    bus.answer(names.REDUCTION_DISABLED, run_number=61)
    assert (outdir / "count").read_text() == "x"
    assert [name for name, _ in bus.heard(run_number=60)].count(names.REDUCTION_COMPLETE) == 1
    assert station.end(agent) == 0
