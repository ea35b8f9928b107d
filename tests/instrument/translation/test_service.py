"""The translator as a process, with a real broker and real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import psutil
import pytest

from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX, PacketReader
from neutronflow.foundation.broker.message import topic
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import PORTS
from tests.support.nexusfiles import differences
from tests.support.postgres import free_port
from tests.support.recorded import SMALL_RUN
from tests.support.runs import end, prologue, pulse, run
from tests.support.senders import Sender, send_run
from tests.support.services import Services, eventually
from tests.support.streams import RECORDED, renamed

READY = "POSTPROCESS.DATA_READY"
SMALL = run(*(pulse(number, {1: [(number, number)]}) for number in range(10)))


class Place(Services):
    """Broker and translator, without the rest."""

    def __init__(self, folder: Path, **changes: str) -> None:
        offset = str(free_port() - PORTS["translator"])
        super().__init__(folder, "port=1 dbname=none", NEUTRONFLOW_PORT_OFFSET=offset, **changes)
        # Compiled once for all places of this session.
        self.environ["NUMBA_CACHE_DIR"] = str(folder.parent / "numba")
        self.port = self.settings.port("translator")
        self.broker = self.start("broker")
        self.translator = self.start("translator")

    def file(self, instrument: str, run_number: int, experiment: str = "IPTS-12345", facility: str = "SNS") -> Path:
        return self.archive / facility / instrument / experiment / "nexus" / f"{instrument}_{run_number}.nxs.h5"

    def outbox(self) -> list[str]:
        return sorted(path.stem for path in (self.settings.data_dir / "translator/outbox").glob("*.json"))

    def unfinished(self) -> list[Path]:
        return [path for path in (self.archive / ".translating").rglob("*.h5") if path.parent.name != "failed"]

    def failures(self) -> list[dict[str, object]]:
        return [json.loads(path.read_text()) for path in (self.archive / ".translating/failed").glob("*.json")]

    def told(self) -> dict[str, str]:
        """The next DATA_READY."""
        fields: dict[str, str] = json.loads(self.collect([READY], 1)[0].body)
        return fields


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("translator"))
    try:
        yield place
        assert place.end(place.translator) == 0
    finally:
        place.end_all()


@pytest.fixture
def own_place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """One to break; ``request.param`` holds changed settings."""
    place = Place(tmp_path, **getattr(request, "param", {}))
    try:
        yield place
    finally:
        place.end_all()


def stream(run_number: int, instrument: str = "HYS", experiment: str = "IPTS-12345", facility: str = "SNS") -> bytes:
    return renamed(facility=facility, instrument=instrument, experiment=experiment, run_number=run_number)


def test_a_run_is_answered_put_into_the_archive_and_told(place: Place) -> None:
    with Sender(place.port) as sender:
        sender.send(RECORDED.read_bytes())
        sender.end()
        said = sender.packets()
    recorded = list(PacketReader().feed(RECORDED.with_name("small_stc_reply.adara").read_bytes()))
    assert [(one.base, one.version) for one in said] == [(one.base, one.version) for one in recorded]
    assert int.from_bytes(said[0].payload[2:4], "little") == 0
    assert bytes(said[0].payload[4:]).rstrip(b"\0") == b"SNS HYSPEC (HYS) Run 1001 IPTS-12345"
    assert abs(said[0].seconds + EPICS_EPOCH_UNIX - time.time()) < 20
    assert (said[1].seconds, said[1].nanoseconds, len(said[1].payload)) == (0, 0, 0)
    file = place.file("HYS", 1001)
    changed = {path for path in differences(file, SMALL_RUN) if not path.startswith("/entry/Software")}
    assert changed <= {""}
    told = place.told()
    assert told.pop("src_id") == f"STC_{place.translator.pid}"
    assert abs(int(told.pop("timestamp")) - time.time()) < 20
    assert told.pop("host")
    assert told == {
        "msg_type": "2687500289",
        "dest_id": "",
        "facility": "SNS",
        "instrument": "HYS",
        "ipts": "IPTS-12345",
        "run_number": "1001",
        "data_file": str(file),
    }
    eventually(lambda: not place.outbox(), "an empty outbox")


def test_a_run_that_comes_again_becomes_the_plain_file_and_the_earlier_ones_are_kept(place: Place) -> None:
    for _ in range(3):
        assert send_run(place.port, stream(1002)).status == 0
        assert place.told()["data_file"] == str(place.file("HYS", 1002))
    names = sorted(path.name for path in place.file("HYS", 1002).parent.glob("HYS_1002*"))
    assert names == ["HYS_1002.nxs.h5", "HYS_1002.v1.nxs.h5", "HYS_1002.v2.nxs.h5"]
    assert len({path.stat().st_ino for path in place.file("HYS", 1002).parent.glob("HYS_1002*")}) == 3


def test_runs_that_come_at_once_do_not_wait_for_each_other(place: Place) -> None:
    """One sender stalls in the middle of its run; two others are interleaved, piece by piece."""
    first, second = stream(1, "SEQ"), stream(2, "CNCS", "IPTS-7")
    with Sender(place.port) as stalled, Sender(place.port) as one, Sender(place.port) as other:
        stalled.send(stream(3)[:900_000])
        for start in range(0, max(len(first), len(second)), 100_000):
            one.send(first[start : start + 100_000])
            other.send(second[start : start + 100_000])
        one.end()
        other.end()
        assert (one.answer().status, other.answer().status) == (0, 0)
        stalled.send(stream(3)[900_000:])
        assert stalled.answer().status == 0
    for file in (place.file("SEQ", 1), place.file("CNCS", 2, "IPTS-7"), place.file("HYS", 3)):
        with h5py.File(file) as found:
            assert found["entry/total_counts"][0] == 171_200
    assert {json.loads(one.body)["instrument"] for one in place.collect([READY], 3)} == {"SEQ", "CNCS", "HYS"}


def test_data_done_is_answered_though_the_sender_keeps_the_connection_open(place: Place) -> None:
    with Sender(place.port) as sender:
        sender.send(stream(1003))
        assert sender.answer().status == 0
    place.told()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xde\xad\xbe\xef" * 4096, "cannot be understood at byte offset 0: "),
        (prologue() + b"\xff" * 64, f"cannot be understood at byte offset {len(prologue())}: "),
        (SMALL[: len(prologue()) + 500], "truncated"),
        (prologue() + pulse(0, {1: [(1, 1)]}), "without the end of its run"),
        (prologue()[:-4] + end(), "offset"),
    ],
)
def test_a_stream_that_cannot_be_used_is_refused_for_good_and_kept_aside(
    place: Place, data: bytes, sentence: str
) -> None:
    before = len(place.failures())
    answer = send_run(place.port, data)
    assert answer.status == 0x8000
    assert sentence in answer.reason
    reasons = [failure["reason"] for failure in place.failures()]
    assert len(reasons) == before + 1
    assert answer.reason in reasons
    assert not place.unfinished()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (stream(1, facility="ATLANTIS"), "The facility 'ATLANTIS' is not known here"),
        (stream(1, experiment="../../../etc"), "'../../../etc' cannot be an experiment"),
        (stream(1, instrument="../x"), "'../x' cannot be an instrument"),
        (stream(2**31), "'2147483648' cannot be a run number"),
    ],
)
def test_names_that_cannot_be_are_refused_for_good_and_write_nothing(place: Place, data: bytes, sentence: str) -> None:
    before = {path for path in place.archive.rglob("*") if ".translating" not in path.parts}
    answer = send_run(place.port, data)
    assert answer.status == 0x8000
    assert sentence in answer.reason
    assert {path for path in place.archive.rglob("*") if ".translating" not in path.parts} == before


def test_the_reason_begins_with_whose_run_it_is(place: Place) -> None:
    reason = send_run(place.port, stream(1004)[:500_001]).reason
    assert reason.startswith("SNS Test instrument HYS (HYS) Run 1004 IPTS-12345 - The stream is truncated")


def test_a_connection_that_breaks_publishes_nothing_and_the_run_can_come_again(place: Place) -> None:
    before = len(place.failures())
    sender = Sender(place.port)
    sender.send(stream(1005)[:1_000_000])
    eventually(place.unfinished, "a file that is being written")
    sender.break_off()
    eventually(lambda: len(place.failures()) > before, "a report of the failure")
    assert not place.file("HYS", 1005).exists()
    assert send_run(place.port, stream(1005)).status == 0
    assert place.told()["run_number"] == "1005"
    assert not list(place.file("HYS", 1005).parent.glob("HYS_1005.v*"))


def test_somebody_who_only_looks_whether_the_port_is_open_leaves_no_trace(place: Place) -> None:
    before = len(place.failures())
    with Sender(place.port) as sender:
        sender.end()
        assert sender.packets() == []
    assert len(place.failures()) == before


def test_a_disk_that_takes_no_more_is_a_passing_failure(place: Place) -> None:
    """A limit on file sizes stands in for a full disk: the same calls fail, and no disk has to be filled."""
    with Sender(place.port) as sender:
        sender.send(stream(1006)[:1_000_000])
        writer = eventually(lambda: _writers(place.translator.pid), "a process that writes")[0]
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        sender.send(stream(1006)[1_000_000:])
        answer = sender.answer()
    assert answer.status == 0x0001
    assert "cannot be written" in answer.reason
    assert not place.file("HYS", 1006).exists()
    assert send_run(place.port, stream(1006)).status == 0
    assert place.told()["run_number"] == "1006"


def test_a_run_whose_process_is_killed_is_a_passing_failure_and_no_other_run_notices(place: Place) -> None:
    with Sender(place.port) as one, Sender(place.port) as other:
        one.send(stream(1008)[:1_000_000])
        mine = eventually(lambda: _writers(place.translator.pid), "a process that writes")[0]
        other.send(stream(1009)[:1_000_000])
        eventually(lambda: len(place.unfinished()) == 2, "two files that are being written")
        mine.kill()
        answer = one.answer()
        assert answer.status == 0x0001
        assert answer.reason.startswith("SNS Test instrument HYS (HYS) Run 1008 IPTS-12345 - ")
        assert "ended unexpectedly (exit code -9)" in answer.reason
        other.send(stream(1009)[1_000_000:])
        assert other.answer().status == 0
    assert place.told()["run_number"] == "1009"


def test_a_second_translator_says_that_the_port_is_taken_and_harms_no_run(place: Place) -> None:
    with Sender(place.port) as sender:
        sender.send(stream(1007)[:1_000_000])
        eventually(place.unfinished, "a file that is being written")
        command = [sys.executable, "-m", "neutronflow.cli", "translator"]
        second = subprocess.run(command, env=place.environ, capture_output=True, timeout=20, check=False, text=True)
        assert second.returncode == 2
        assert f"The translator cannot listen on 127.0.0.1:{place.port}" in second.stderr
        sender.send(stream(1007)[1_000_000:])
        assert sender.answer().status == 0
    place.told()


def test_a_killed_translator_leaves_no_half_file_and_takes_the_run_again(own_place: Place) -> None:
    sender = Sender(own_place.port)
    sender.send(RECORDED.read_bytes()[:1_200_000])
    stale = eventually(own_place.unfinished, "a file that is being written")[0]
    own_place.end(own_place.translator, signal.SIGKILL)
    sender.break_off()
    assert stale.exists()
    assert not own_place.file("HYS", 1001).exists()
    own_place.start("translator")
    assert not stale.exists()
    assert send_run(own_place.port, RECORDED.read_bytes()).status == 0
    assert own_place.told()["run_number"] == "1001"
    assert not list(own_place.file("HYS", 1001).parent.glob("*.v1.*"))


def test_a_run_translated_without_a_broker_is_told_after_a_kill_under_the_same_identity(own_place: Place) -> None:
    own_place.end(own_place.broker, signal.SIGKILL)
    assert send_run(own_place.port, SMALL).status == 0
    assert own_place.file("HYS", 1001).exists()
    kept = own_place.outbox()
    assert len(kept) == 2
    own_place.end(own_place.translator, signal.SIGKILL)
    assert own_place.outbox() == kept
    own_place.start("broker")
    own_place.start("translator")
    message = own_place.collect([READY], 1)[0]
    assert message.nf_id == kept[0]
    assert json.loads(message.body)["data_file"] == str(own_place.file("HYS", 1001))
    eventually(lambda: not own_place.outbox(), "an empty outbox")


def test_it_ends_well_at_sigterm_without_a_broker_and_in_the_middle_of_a_run(own_place: Place) -> None:
    own_place.end(own_place.broker, signal.SIGKILL)
    with Sender(own_place.port) as sender:
        sender.send(RECORDED.read_bytes()[:1_000_000])
        eventually(own_place.unfinished, "a file that is being written")
        started = time.monotonic()
        assert own_place.end(own_place.translator) == 0
        assert time.monotonic() - started < 5


def test_it_ends_well_at_sigterm_though_it_never_had_a_broker(own_place: Place) -> None:
    own_place.end(own_place.translator)
    own_place.end(own_place.broker)
    command = [sys.executable, "-m", "neutronflow.cli", "translator"]
    with subprocess.Popen(command, env=own_place.environ) as process:
        try:
            eventually(lambda: _can_connect(own_place.port), "an open port")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    "own_place",
    [{"NEUTRONFLOW_TRANSLATOR__IDLE_TIMEOUT_S": "0.6", "NEUTRONFLOW_TRANSLATOR__MAX_RUNS": "1"}],
    indirect=True,
)
def test_a_silent_sender_is_given_up_for_now_and_makes_room_for_the_next(own_place: Place) -> None:
    with Sender(own_place.port) as silent:
        silent.send(SMALL[:20_000])
        # There is room for one run at a time: this one waits until the silent one is given up.
        assert send_run(own_place.port, SMALL).status == 0
        answer = silent.answer()
    assert answer.status == 0x0001
    assert "was silent for 0.6 s, 20000 bytes into the stream" in answer.reason


@pytest.mark.parametrize("own_place", [{"NEUTRONFLOW_TRANSLATOR__HEARTBEAT_S": "0.1"}], indirect=True)
def test_who_listens_hears_that_a_run_begins_goes_on_and_ends_or_fails(own_place: Place) -> None:
    async def listen() -> list[tuple[str, dict[str, str]]]:
        heard: list[tuple[str, dict[str, str]]] = []
        async with Session.from_settings(own_place.settings, user="agent") as session, asyncio.timeout(20):
            await session.connected()
            subscription = await session.subscribe([topic("SNS.HYS.APP.STC"), topic("SNS.HYS.STATUS.STC")])

            async def hear(wanted: str) -> None:
                while not heard or heard[-1][1]["msg_type"] != wanted:
                    message = await subscription.get()
                    heard.append((message.destination.name, json.loads(message.body)))

            with Sender(own_place.port) as sender:
                sender.send(SMALL[: len(prologue()) + 300])
                await hear("1073741824")
                sender.send(SMALL[len(prologue()) + 300 :])
                await hear("2687500289")
                assert (await asyncio.to_thread(sender.answer)).status == 0
            await asyncio.to_thread(send_run, own_place.port, SMALL[:-50])
            await hear("2687500290")
        return heard

    heard = asyncio.run(listen())
    assert heard[0][0] == "SNS.HYS.APP.STC"
    assert (heard[0][1]["msg_type"], heard[0][1]["run_num"]) == ("2687500288", "1001")
    beats = [fields for name, fields in heard if name == "SNS.HYS.STATUS.STC"]
    assert beats[0].keys() == {"msg_type", "src_id", "dest_id", "timestamp", "status"}
    assert beats[0]["status"] == "0"
    failed = heard[-1][1]
    assert (failed["code"], failed["run_number"], failed["ipts"]) == ("32768", "1001", "IPTS-12345")
    assert "truncated" in failed["reason"]


def _writers(translator: int) -> list[psutil.Process]:
    """The processes of a translator that have a file below .translating open."""
    found = []
    for process in psutil.Process(translator).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(".translating" in file.path for file in process.open_files()):
                found.append(process)
    return found


def _can_connect(port: int) -> bool:
    try:
        with Sender(port):
            return True
    except OSError:
        return False
