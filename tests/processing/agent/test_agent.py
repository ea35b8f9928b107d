"""Agents as processes, on a real broker, with real scripts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neutronflow.domain.facility import facilities
from neutronflow.domain.messages import destinations as names
from neutronflow.foundation import tokens
from neutronflow.processing.reduction.shipped import install_shipped_scripts
from tests.support.station import FOREVER, NOTE_PID, Bus, Station, gone, pid_in, running_station


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Station, Bus]]:
    limits = {"NEUTRONFLOW_AGENT__TIME_LIMIT_S": "3", "NEUTRONFLOW_AGENT__KILL_GRACE_S": "0.3"}
    with running_station(tmp_path_factory.mktemp("station"), **limits) as running:
        running[0].agent("autoreducer1")
        yield running


@pytest.fixture
def station(place: tuple[Station, Bus]) -> Station:
    place[0].web.requests.clear()
    place[0].web.answers = [(200, {}, b'{"id": "abc"}')]
    return place[0]


@pytest.fixture
def bus(place: tuple[Station, Bus]) -> Bus:
    return place[1]


def test_a_script_that_warns_and_exits_0_completes_the_step(station: Station, bus: Bus) -> None:
    station.script(
        "WARNS",
        "import os, sys\n"
        "print('reducing', flush=True)\n"
        "print('Error: only a warning', file=sys.stderr)\n"
        "open('WARNS_11_reduced.csv', 'w').write('1,2')\n"
        "open('seen', 'w').write(repr((sys.argv[1:], os.getcwd())))\n",
    )
    bus.ask(names.REDUCTION_READY, station.command("warns", 11, note={"kept": [1]}, src_id="STC_1"))
    complete = bus.answer(names.REDUCTION_COMPLETE, run_number=11)
    outdir = station.outdir("WARNS")
    assert complete["information"] == "autoreducer1"
    assert (complete["nf_attempt"], complete["nf_cycle"]) == (2, 3)
    assert (complete["note"], complete["src_id"], complete["instrument"]) == ({"kept": [1]}, "STC_1", "warns")
    assert "error" not in complete
    data_file = str(station.data_file("warns", 11))
    assert (outdir / "seen").read_text() == repr(([data_file, f"{outdir}/"], str(outdir)))
    assert [name for name, _ in bus.heard(run_number=11)] == [
        names.REDUCTION_STARTED, names.JOB_REPORT, names.REDUCTION_COMPLETE,
    ]  # fmt: skip
    report = bus.answer(names.JOB_REPORT, run_number=11)
    assert report["log"] == "reducing\nError: only a warning\n"
    assert (report["step"], report["attempt"], report["agent"], report["exit_code"]) == ("reduce", 2, "autoreducer1", 0)
    assert {Path(file["path"]).name: file["kind"] for file in report["files"]} == {
        "WARNS_11_reduced.csv": "reduced", "warns_11.nxs.h5.log": "log",
    }  # fmt: skip
    assert report["cpu_s"] > 0
    logs = outdir / "reduction_log"
    assert [path.name for path in logs.iterdir()] == ["warns_11.nxs.h5.log"]


def test_a_script_that_exits_3_fails_the_step_and_says_so(station: Station, bus: Bus) -> None:
    station.script("EXITS", "import sys\nprint('so far so good')\nsys.exit(3)\n")
    bus.ask(names.REDUCTION_READY, station.command("EXITS", 12))
    assert bus.answer(names.REDUCTION_ERROR, run_number=12)["error"] == "REDUCTION: exit code 3"
    assert bus.answer(names.JOB_REPORT, run_number=12)["log"] == "so far so good\n"


def test_an_exception_is_told_in_its_own_words_and_the_err_file_stays(station: Station, bus: Bus) -> None:
    station.script("RAISES", "raise ValueError('no sample in the beam')\n")
    bus.ask(names.REDUCTION_READY, station.command("RAISES", 13))
    error = bus.answer(names.REDUCTION_ERROR, run_number=13)["error"]
    assert error == "REDUCTION: ValueError: no sample in the beam (exit code 1)"
    assert "no sample in the beam" in (station.outdir("RAISES") / "reduction_log" / "RAISES_13.nxs.h5.err").read_text()


def test_an_endless_script_is_stopped_with_all_that_it_has_started(station: Station, bus: Bus) -> None:
    station.script(
        "ENDLESS",
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {NOTE_PID + FOREVER!r}])\n{FOREVER}",
    )
    bus.ask(names.REDUCTION_READY, station.command("ENDLESS", 14))
    child = pid_in(station.outdir("ENDLESS") / "pid")
    error = bus.answer(names.REDUCTION_ERROR, run_number=14)["error"]
    assert re.fullmatch(r"REDUCTION: Time limit exceeded \(3\.\d s > 3\.0 s\)\. Terminating job\.", error)
    assert gone(child)


def test_without_a_script_reduction_is_disabled(station: Station, bus: Bus) -> None:
    bus.ask(names.REDUCTION_READY, station.command("NOSCRIPT", 15))
    assert "error" not in bus.answer(names.REDUCTION_DISABLED, run_number=15)
    assert "reduce_NOSCRIPT.py" in bus.answer(names.JOB_REPORT, run_number=15)["log"]


def test_a_job_sees_no_secret_of_the_agent_and_a_token_for_its_run(station: Station, bus: Bus) -> None:
    station.script("NOSY", "import json, os\nwith open('env', 'w') as file: json.dump(dict(os.environ), file)\n")
    bus.ask(names.REDUCTION_READY, station.command("NOSY", 16))
    bus.answer(names.REDUCTION_COMPLETE, run_number=16)
    seen = json.loads((station.outdir("NOSY") / "env").read_text())
    assert not [
        name for name, value in seen.items() if name.startswith(("NEUTRONFLOW", "NOTIFY")) or "value of" in value
    ]
    assert seen["HOME"].startswith(str(station.settings.data_dir))
    assert not Path(seen["TMPDIR"]).exists()
    claims = tokens.verify(station.settings.secret("livedata-tokens"), "plot-upload", seen["PLOT_PUBLISHER_TOKEN"])
    assert claims == {"facility": "SNS", "instrument": "NOSY", "run": "16", "experiment": "IPTS-12345"}
    assert seen["PLOT_PUBLISHER_URL_TEMPLATE"] == f"{station.web.url}/plots/$instrument/$run_number/upload_plot_data/"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"this is not JSON", "it is not JSON"),
        (b"\x00\xff\xfe", "it is not JSON"),
        (b"[1, 2]", "no object"),
        (b'{"facility": "SNS", "instrument": "HYS", "ipts": "IPTS-1"}', "'run_number' is missing"),
        (b'{"facility": "MARS", "instrument": "HYS", "run_number": 1}', "The facility 'MARS' is not known here"),
        (b'{"facility": "SNS", "instrument": "../../etc", "run_number": 1}', "cannot be an instrument"),
        (b'{"facility": "SNS", "instrument": "HYS", "run_number": -1}', "cannot be a run number"),
    ],
)
@pytest.mark.parametrize("destination", [names.REDUCTION_READY, names.CATALOG_RAW_READY])
def test_what_names_no_run_becomes_a_dead_letter_whole(
    station: Station, bus: Bus, destination: str, body: bytes, reason: str
) -> None:
    body = body + b" " * (1 if destination == names.REDUCTION_READY else 2)
    bus.ask(destination, body)
    letter = bus.dead_letter(body)
    assert reason in letter.headers["nf-reason"]
    assert letter.headers["nf-source"] == "autoreducer1"
    assert letter.headers["nf-destination"] == f"/queue/{destination}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ipts": ""}, "IPTS is missing"),
        ({"ipts": "../IPTS-1"}, "'../IPTS-1' cannot be an experiment."),
        ({"data_file": ""}, "data_file is missing: None"),
        ({"data_file": "/etc/passwd"}, "Data file is not in the archive: /etc/passwd"),
        ({"data_file": "{archive}/SNS/../../../../etc/passwd"}, "Data file is not in the archive: "),
        ({"data_file": "{archive}/link"}, "Data file is not in the archive: "),
        ({"data_file": "{archive}/SNS/none.nxs.h5"}, "Data file not found: "),
        ({"data_file": "{archive}/SNS"}, "Data file open error for file "),
    ],
)
def test_a_command_for_a_known_run_that_cannot_be_carried_out_is_answered(
    station: Station, bus: Bus, changes: dict[str, str], sentence: str, request: pytest.FixtureRequest
) -> None:
    link = station.archive / "link"
    if not link.is_symlink():
        station.archive.mkdir(exist_ok=True)
        link.symlink_to("/etc/passwd")
    given = {name: value.replace("{archive}", str(station.archive)) for name, value in changes.items()}
    bus.ask(names.REDUCTION_READY, station.command("HYS", 17, **given, case=request.node.name))
    error = bus.answer(names.POSTPROCESS_ERROR, case=request.node.name)
    assert error["error"].startswith(sentence)
    assert error["nf_step"] == "reduce"
    assert error["nf_attempt"] == 2


def test_raw_data_are_cataloged_with_the_agents_token(station: Station, bus: Bus) -> None:
    bus.ask(names.CATALOG_RAW_READY, station.command("HYS", 18))
    bus.answer(names.CATALOG_RAW_COMPLETE, run_number=18)
    (request,) = station.web.requests
    assert request.path == f"/api/datafiles{station.data_file('HYS', 18)}/ingest"
    assert request.headers["authorization"] == "Bearer value of catalog-token"
    report = bus.answer(names.JOB_REPORT, run_number=18)
    assert report["step"] == "catalog_raw"
    assert '"id": "abc"' in report["log"]


def test_what_the_catalog_refuses_fails_the_step_with_its_words(station: Station, bus: Bus) -> None:
    station.web.answers = [(400, {}, b'{"message": "no NeXus file"}')]
    bus.ask(names.CATALOG_RAW_READY, station.command("HYS", 19))
    error = bus.answer(names.CATALOG_RAW_ERROR, run_number=19)["error"]
    assert error.startswith("ONCAT: The catalog does not take ")
    assert len(error) <= 198


@pytest.mark.parametrize(
    ("run_number", "content", "said"),
    [
        (20, None, "Nothing was cataloged"),
        (21, "not JSON", "does not describe reduced data"),
        (22, '{"input_files": [], "output_files": []}', "names no input or no output files"),
    ],
)
def test_reduced_data_without_a_usable_description_are_no_success(
    station: Station, bus: Bus, run_number: int, content: str | None, said: str
) -> None:
    outdir = station.outdir("HYS")
    outdir.mkdir(parents=True, exist_ok=True)
    if content is not None:
        (outdir / f"HYS_{run_number}.json").write_text(content)
    bus.ask(names.REDUCTION_CATALOG_READY, station.command("HYS", run_number))
    error = bus.answer(names.CATALOG_ERROR, run_number=run_number)
    assert error["nf_step"] == "catalog_reduced"
    assert error["error"].startswith("ONCAT: ")
    assert said in bus.answer(names.JOB_REPORT, run_number=run_number)["log"]
    assert station.web.requests == []


def test_a_file_whose_name_is_no_text_does_not_end_the_agent(station: Station, bus: Bus) -> None:
    station.script("BYTES", "open(b'BYTES_31_\\xff.nxs', 'w').close()\n")
    bus.ask(names.REDUCTION_READY, station.command("BYTES", 31))
    bus.answer(names.REDUCTION_COMPLETE, run_number=31)
    files = [Path(file["path"]).name for file in bus.answer(names.JOB_REPORT, run_number=31)["files"]]
    assert "BYTES_31_\ufffd.nxs" in files


def test_pipes_in_the_place_of_files_are_not_waited_for(station: Station, bus: Bus) -> None:
    station.script(
        "PIPES",
        "import os\n"
        "log = 'reduction_log/PIPES_32.nxs.h5.log'\n"
        "os.unlink(log); os.mkfifo(log); os.mkfifo('PIPES_32.json')\n",
    )
    bus.ask(names.REDUCTION_READY, station.command("PIPES", 32))
    bus.answer(names.REDUCTION_COMPLETE, run_number=32)
    assert "cannot be read" in bus.answer(names.JOB_REPORT, run_number=32)["log"]
    bus.ask(names.REDUCTION_CATALOG_READY, station.command("PIPES", 32))
    assert "no regular file" in bus.answer(names.CATALOG_ERROR, run_number=32)["error"]


def test_the_shipped_script_reduces_the_recorded_run_and_publishes_its_plot(station: Station, bus: Bus) -> None:
    install_shipped_scripts(facilities(station.archive, {}))
    begin = time.monotonic()
    bus.ask(names.REDUCTION_READY, station.command("HYS", 1001))
    bus.answer(names.REDUCTION_COMPLETE, run_number=1001)
    assert time.monotonic() - begin < 5
    (upload,) = station.web.requests
    assert upload.path == "/plots/HYS/1001/upload_plot_data/"
    assert b"Plotly.newPlot" in upload.body
    report = bus.answer(names.JOB_REPORT, run_number=1001)
    assert "171200 events" in report["log"]
    assert {Path(file["path"]).name for file in report["files"]} == {
        "HYS_1001_reduced.nxs.h5", "HYS_1001_reduced.csv", "HYS_1001_plot.html", "HYS_1001.json", "HYS_1001.nxs.h5.log",
    }  # fmt: skip
    bus.ask(names.REDUCTION_CATALOG_READY, station.command("HYS", 1001))
    bus.answer(names.REDUCTION_CATALOG_COMPLETE, run_number=1001)
    assert station.web.requests[-1].path == f"/api/reductions{station.outdir('HYS')}/HYS_1001.json/ingest"


def test_a_plot_that_is_refused_fails_the_step_with_the_servers_words(station: Station, bus: Bus) -> None:
    install_shipped_scripts(facilities(station.archive, {}))
    station.web.answers = [(401, {}, b"The token is not accepted")]
    bus.ask(names.REDUCTION_READY, station.command("HYS", 25))
    error = bus.answer(names.REDUCTION_ERROR, run_number=25)["error"]
    assert error.startswith(f"REDUCTION: {station.web.url}/plots/HYS/1001/upload_plot_data/ answered 401: The token")
    assert error.endswith("(exit code 1)")


def test_while_a_reduction_runs_data_are_cataloged_and_pings_answered(station: Station, bus: Bus) -> None:
    station.script("SLOW", f"{NOTE_PID}{FOREVER}")
    bus.ask(names.REDUCTION_READY, station.command("SLOW", 23))
    pid_in(station.outdir("SLOW") / "pid")
    bus.ask(names.CATALOG_RAW_READY, station.command("SLOW", 24))
    for ping in (b"null", b"\xff", b"{}", b'{"reply_to": "/queue/REDUCTION.DATA_READY"}', b'{"reply_to": 7}'):
        bus.tell_all(names.TOPIC_PING, ping)
    bus.tell_all(names.TOPIC_PING, {"reply_to": f"/topic/{names.TOPIC_ACK}", "request_time": 12.5})
    pong = bus.answer(names.TOPIC_ACK, request_time=12.5)
    assert (pong["src_name"], pong["role"], pong["status"]) == ("autoreducer1", "postprocessing", "0")
    bus.answer(names.CATALOG_RAW_COMPLETE, run_number=24)
    assert [name for name, _ in bus.heard(run_number=23)] == [names.REDUCTION_STARTED]
    bus.answer(names.REDUCTION_ERROR, run_number=23)


def test_a_heartbeat_is_sent_at_the_start(bus: Bus) -> None:
    beat = bus.answer(names.TOPIC_AGENT_STATUS, src_name="autoreducer1")
    assert set(beat) == {"src_name", "role", "status", "pid"}
    assert all(isinstance(value, str) for value in beat.values())
