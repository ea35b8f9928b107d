"""The stream service as a process: with recorded sources, a real translator, and clients."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from neutronflow.domain.adara.packets import Annotation, BankedEvents, Empty, RunStatus, RunStatusCode, Sync, decode
from neutronflow.domain.adara.wire import Packet, PacketType
from tests.instrument.stream.beamline import Beamline, beamline
from tests.support.sources import DATA
from tests.support.station import eventually
from tests.support.streams import packets

_PULSE = {PacketType.RTDL, PacketType.BEAM_MONITOR_EVENT, PacketType.BANKED_EVENT}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beamline]:
    with beamline(tmp_path_factory.mktemp("beamline")) as one:
        yield one


def shape(stream: list[Packet]) -> list[int]:
    """Packet types, up to the first pulse."""
    return [packet.base for packet in itertools.takewhile(lambda one: one.base not in _PULSE, stream)]


def codes(stream: list[Packet]) -> list[RunStatusCode]:
    return [one.status for packet in stream if isinstance(one := decode(packet), RunStatus)]


def events(stream: list[Packet]) -> int:
    banked = [one for packet in stream if isinstance(one := decode(packet), BankedEvents)]
    return sum(len(bank.tof) for one in banked for source in one.sources for bank in source.banks)


def pulses(stream: list[Packet]) -> list[int]:
    return [packet.pulse_id for packet in stream if packet.base == PacketType.BANKED_EVENT]


def test_a_run_is_spooled_as_recorded_and_translated(line: Beamline) -> None:
    line.take_pulses(5)
    run = line.start_run()
    line.take_pulses(60)
    assert line.state()["recording"]
    assert line.stop_run() == run
    stream = line.stream_of(run)
    recorded = packets((DATA / "small_sms_run1001.adara").read_bytes())
    assert shape(stream) == shape(recorded)
    assert codes(stream) == [RunStatusCode.NEW_RUN, RunStatusCode.END_RUN]
    assert stream[-1].base == PacketType.RUN_STATUS
    # Each pulse in this order, and the pulses in the order of time.
    kinds = [packet.base for packet in stream if packet.base in _PULSE]
    assert kinds == [PacketType.RTDL, PacketType.BEAM_MONITOR_EVENT, PacketType.BANKED_EVENT] * (len(kinds) // 3)
    assert pulses(stream) == sorted(pulses(stream))
    assert len(pulses(stream)) >= 60
    with h5py.File(line.translated(run)) as file:
        assert file["entry/total_pulses"][0] == len(pulses(stream))
        assert file["entry/total_counts"][0] == events(stream)
        assert file["entry/experiment_identifier"][0] == b"IPTS-12345"
        assert b"simulated" in file["entry/Software/DataAcquistion/version"][0]


def test_a_pause_is_left_out_of_the_run(line: Beamline) -> None:
    run = line.start_run()
    line.take_pulses(10)
    assert line.post("/api/run/pause").json() == {"run_number": run}
    assert line.post("/api/run/pause").status_code == 409
    line.take_pulses(10)
    line.post("/api/run/resume")
    line.take_pulses(10)
    line.stop_run()
    stream = line.stream_of(run)
    assert codes(stream) == [
        RunStatusCode.NEW_RUN,
        RunStatusCode.RUN_EOF,
        RunStatusCode.RUN_BOF,
        RunStatusCode.END_RUN,
    ]
    words = [one.file_word for packet in stream if isinstance(one := decode(packet), RunStatus)]
    assert words == [4097, 4097, 12289, 12289]
    assert len(pulses(line.stream_of(run, paused=True))) > len(pulses(stream))
    with h5py.File(line.translated(run)) as file:
        assert file["entry/total_pulses"][0] == len(pulses(stream))
        assert file["entry/DASlogs/pause/value"][:].tolist() == [0, 1, 0]


def test_annotations_come_into_the_stream(line: Beamline) -> None:
    run = line.start_run()
    for body in (
        {"marker": "scan_start", "scan_index": 3},
        {"marker": "comment", "comment": "déjà vu <b>"},
        {"marker": "run_comment", "comment": "the notes"},
        {"marker": "scan_stop", "scan_index": 3},
    ):
        assert line.post("/api/annotation", body).status_code == 200
    line.take_pulses(5)
    line.stop_run()
    found = [one.comment for packet in line.stream_of(run) if isinstance(one := decode(packet), Annotation)]
    assert found == [
        f"Run {run} Started.",
        f"[Run {run}] Scan #3 Started.",
        "déjà vu <b>",
        "the notes",
        f"[Run {run}] Scan #3 Stopped.",
        f"Run {run} Stopped.",
    ]
    with h5py.File(line.translated(run)) as file:
        assert file["entry/notes"][0] == b"the notes"


@pytest.mark.parametrize("start", [0, 1, 1000])
def test_a_client_gets_a_consistent_prologue_at_any_moment(line: Beamline, start: int) -> None:
    run = line.start_run()
    line.take_pulses(7)
    recorded = packets((DATA / "small_sms_run1001.adara").read_bytes())
    with line.live(start) as read:
        data = read(400_000)
    stream = list(packets(data[: _whole(data)]))
    assert isinstance(decode(stream[0]), Sync)
    first = decode(stream[1])
    assert isinstance(first, RunStatus)
    if start == 1:
        assert (first.status, first.run_number) == (RunStatusCode.NEW_RUN, run)
        assert shape(stream) == shape(recorded)
        assert pulses(stream) == pulses(line.stream_of(run))[: len(pulses(stream))]
    if start == 0:
        assert (first.status, first.run_number) == (RunStatusCode.STATE, run)
        # No marker is in force; all else is as at the beginning of the run.
        assert shape(stream) == [base for base in shape(recorded) if base != PacketType.STREAM_ANNOTATION]
        seen = pulses(stream)
        everything = pulses(line.stream_of(run))
        at = everything.index(seen[0])
        eventually(lambda: len(pulses(line.stream_of(run))) >= at + len(seen), "pulses on the disk")
        assert seen == pulses(line.stream_of(run))[at : at + len(seen)]
    line.stop_run()


def _whole(data: bytes) -> int:
    at = 0
    while at + 16 <= len(data) and at + 16 + int.from_bytes(data[at : at + 4], "little") <= len(data):
        at += 16 + int.from_bytes(data[at : at + 4], "little")
    return at


def test_clients_that_say_no_hello_or_nonsense_are_dropped(line: Beamline) -> None:
    port = line.station.settings.port("live_stream")
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n" * 3, b"\xff" * 64, DATA.joinpath("raw_gen.adara").read_bytes()[:2000]):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(nonsense)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
    line.take_pulses(5)


def test_a_client_that_reads_nothing_holds_up_nobody(line: Beamline) -> None:
    run = line.start_run()
    with line.live(1), line.live(0):
        line.take_pulses(120)
        with line.live(1) as read:
            assert len(read(200_000)) == 200_000
    line.stop_run()
    line.translated(run)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"run_title": "no proposal"}, 400, "proposal_id"),
        ({"proposal_id": "../../etc"}, 409, "cannot be"),
        ({"proposal_id": "IPTS-1", "users": "all"}, 400, "array"),
        ({"proposal_id": "IPTS-1", "colour": "red"}, 400, "colour"),
        ("{", 400, ""),
        ("x" * 300_000, 413, "longer"),
    ],
)
def test_bad_requests_are_refused_in_words(line: Beamline, body: object, status: int, words: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    reply = line._http.post("/api/run/start", content=content)
    assert reply.status_code == status
    assert words in reply.json()["detail"]
    assert not line.state()["recording"]


def test_without_the_token_nothing_is_done(line: Beamline) -> None:
    reply = line._http.post("/api/run/start", content="{}", headers={"Authorization": "Bearer wrong"})
    assert reply.status_code == 401
    assert line._http.get("/api/nothing").status_code == 404
    assert line.post("/api/run/stop").status_code == 409


def test_hostile_titles_come_through_as_text(line: Beamline) -> None:
    title = "<b>&amp; \x00\x07 ]]> \ud83d\ude00 'quoted\" " + "é" * 10
    run = line.start_run(run_title=title)
    line.take_pulses(3)
    line.stop_run()
    with h5py.File(line.translated(run)) as file:
        assert file["entry/title"][0].decode().startswith("<b>&amp; ")


def test_garbage_of_a_source_is_kept_and_the_source_comes_back(line: Beamline) -> None:
    before = line.state()["sources"]["slow-controls1"]["bad"]
    assert line.slow._connection is not None
    line.slow._connection.sendall(b"\x03\x00\x00\x00" + b"garbage!" * 10)
    eventually(lambda: line.state()["sources"]["slow-controls1"]["bad"] > before, "counted")
    kept = list((line.station.settings.data_dir / "stream" / "bad").glob("slow-controls1-*.txt"))
    assert "multiple of 4" in kept[-1].read_text()
    eventually(lambda: line.state()["sources"]["slow-controls1"]["connected"], "connected again")
    line.take_pulses(5)


def test_a_lost_detector_is_a_gap_that_the_run_tells_of(line: Beamline) -> None:
    run = line.start_run()
    line.take_pulses(5)
    line.detectors.drop()
    line.take_pulses(20)
    line.stop_run()
    comments = [one.comment for packet in line.stream_of(run) if isinstance(one := decode(packet), Annotation)]
    assert any("Gap: no data from" in comment and "detectors1" in comment for comment in comments), comments
    line.translated(run)


def test_killed_in_a_run_it_goes_on_with_it(tmp_path: Path) -> None:
    with beamline(tmp_path) as one:
        run = one.start_run()
        one.take_pulses(30)
        service = one.station.processes[-1]
        service.send_signal(signal.SIGKILL)
        service.wait()
        before = pulses(one.stream_of(run))
        # A packet that was being written when the machine went down.
        last = sorted(one.container(run).glob("*.adara"))[-1]
        with last.open("ab") as file:
            file.write(b"\x10\x00\x00\x00\x01\x00\x40\x00half a")
        time.sleep(1.0)
        one.station.start("stream")
        assert one.state()["run_number"] == run
        one.take_pulses(30)
        one.stop_run()
        stream = one.stream_of(run)
        assert pulses(stream)[: len(before)] == before
        assert codes(stream) == [RunStatusCode.NEW_RUN, RunStatusCode.RUN_BOF, RunStatusCode.END_RUN]
        comments = [item.comment for packet in stream if isinstance(item := decode(packet), Annotation)]
        assert any("Gap: no data from" in comment for comment in comments), comments
        with h5py.File(one.translated(run)) as file:
            assert file["entry/total_pulses"][0] == len(pulses(stream))
        # The next run has the next number, and the devices are still what they were.
        following = one.start_run()
        assert following == run + 1
        one.take_pulses(5)
        one.stop_run()
        assert shape(one.stream_of(following)) == shape(stream)
        one.translated(following)


def test_a_translator_that_comes_late_gets_every_run(tmp_path: Path) -> None:
    with beamline(tmp_path, translator=False) as one:
        runs = []
        for _ in range(2):
            runs.append(one.start_run())
            one.take_pulses(5)
            one.stop_run()
        assert one.state()["not_translated"] == 2
        translator = one.station.start("translator")
        for run in runs:
            one.translated(run)
        # And one that is killed in a run gets the whole of it again.
        run = one.start_run()
        one.take_pulses(10)
        translator.send_signal(signal.SIGKILL)
        translator.wait()
        one.take_pulses(10)
        one.station.start("translator")
        one.take_pulses(10)
        one.stop_run()
        with h5py.File(one.translated(run)) as file:
            assert file["entry/total_pulses"][0] == len(pulses(one.stream_of(run)))


def test_large_runs_go_on_in_further_files(tmp_path: Path) -> None:
    with beamline(tmp_path, NEUTRONFLOW_STREAM__FILE_BYTES="200000", NEUTRONFLOW_STREAM__SYNC_BYTES="50000") as one:
        run = one.start_run()
        with one.live(1) as read:
            one.take_pulses(200)
            data = read(600_000)
        one.stop_run()
        stream = one.stream_of(run)
        assert len(list(one.container(run).glob("*.adara"))) >= 2
        assert codes(stream)[:3] == [RunStatusCode.NEW_RUN, RunStatusCode.RUN_EOF, RunStatusCode.RUN_BOF]
        assert len(pulses(stream)) == len(set(pulses(stream)))
        assert len([packet for packet in stream if packet.base == PacketType.SYNC]) >= 6
        with h5py.File(one.translated(run)) as file:
            assert file["entry/total_pulses"][0] == len(pulses(stream))
        seen = pulses(packets(data[: _whole(data)]))
        assert seen == pulses(stream)[: len(seen)]
        assert not any(isinstance(decode(packet), Empty) for packet in stream)
