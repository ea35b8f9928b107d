"""Bad input at every door: it gets its documented error, and nothing else stops."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from neutronflow.domain.messages import destinations
from neutronflow.foundation.broker.message import Outgoing, queue
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.tokens import mint
from tests.support.stack import Stack, running_stack, wait_until
from tests.support.streams import RECORDED, renamed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("bad"), "[agent]\ntime_limit_s = 4.0\n") as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_else_stops(stack: Stack) -> Iterator[None]:
    """Around each test: no service was restarted by it, and a good run still goes through afterwards."""
    before = {name: service["restarts"] for name, service in stack.status().items()}
    yield
    assert {name: service["restarts"] for name, service in stack.status().items()} == before
    done = stack.run("replay", str(RECORDED), timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr


def publish(stack: Stack, destination: str, body: bytes) -> None:
    async def send() -> None:
        async with Session.from_settings(stack.settings, user="translator") as session:
            await session.publish(Outgoing(destination=queue(destination), body=body))

    asyncio.run(send())


def dead_letters(stack: Stack, destination: str) -> list[tuple[str, bytes]]:
    rows = stack.sql("SELECT reason, body FROM dead_letter WHERE destination = %s ORDER BY id", destination)
    return [(reason, bytes(body)) for reason, body in rows]


def test_a_truncated_stream_is_refused_and_leaves_no_file(stack: Stack, tmp_path: Path) -> None:
    data = renamed(facility="SNS", instrument="HYS", experiment="IPTS-12345", run_number=3001)
    short = tmp_path / "short.adara"
    short.write_bytes(data[: len(data) * 2 // 3 + 1])
    done = stack.run("replay", str(short), "--timeout", "20")
    assert done.returncode == 2
    assert "trunc" in done.stderr.lower() or "ended" in done.stderr.lower()
    assert not (stack.settings.archive_root / "SNS/HYS/IPTS-12345/nexus/HYS_3001.nxs.h5").exists()
    assert stack.run_state("SNS/HYS/3001") == {}


def test_garbage_bytes_are_answered_with_a_permanent_failure(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.settings.port("translator")), timeout=20) as connection:
        connection.sendall(b"\xde\xad\xbe\xef" * 4096)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"offset" in answer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"this is not JSON", "not JSON"),
        (b'{"facility": "SNS", "instrument": "HYS", "ipts": "IPTS-1"}', "'run_number' is missing"),
        (
            b'{"facility": "SNS", "instrument": "../../etc", "ipts": "IPTS-1", "run_number": 1, "data_file": "/x"}',
            "instrument",
        ),
        (b"\x00\xff\xfe", "not JSON"),
    ],
)
@pytest.mark.parametrize("destination", [destinations.POSTPROCESS_DATA_READY, destinations.REDUCTION_READY])
def test_a_message_that_cannot_be_understood_is_kept_with_its_reason(
    stack: Stack, destination: str, body: bytes, reason: str
) -> None:
    publish(stack, destination, body)
    kept = wait_until(lambda: [why for why, raw in dead_letters(stack, destination) if raw == body], "a dead letter")
    assert reason in kept[0]


def with_script(stack: Stack, instrument: str, script: str) -> None:
    folder = stack.settings.archive_root / "SNS" / instrument / "shared" / "autoreduce"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"reduce_{instrument}.py").write_text(script)


def replay_renamed(stack: Stack, folder: Path, instrument: str) -> dict[str, object]:
    file = folder / f"{instrument}.adara"
    file.write_bytes(renamed(facility="SNS", instrument=instrument, experiment="IPTS-12345", run_number=1))
    done = stack.run("replay", str(file), "--json", timeout=150)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_script_that_exits_3_fails_the_step_and_says_so(stack: Stack, tmp_path: Path) -> None:
    with_script(stack, "EXITS", "import sys\nprint('so far so good')\nsys.exit(3)\n")
    result = replay_renamed(stack, tmp_path, "EXITS")
    assert result["state"] == "failed"
    assert "exit code 3" in str(result["problem"])
    rows = stack.sql(
        "SELECT log, exit_code FROM job_report JOIN run ON run.id = run_id JOIN instrument ON instrument.id = instrument_id "
        "WHERE instrument.name = 'EXITS' AND step = 'reduce'"
    )
    assert rows == [("so far so good\n", 3)]


def test_a_script_that_never_ends_is_stopped_at_its_time_limit(stack: Stack, tmp_path: Path) -> None:
    with_script(stack, "ENDLESS", "import time\nwhile True:\n    time.sleep(1)\n")
    started = time.monotonic()
    result = replay_renamed(stack, tmp_path, "ENDLESS")
    assert "Time limit exceeded" in str(result["problem"])
    assert time.monotonic() - started < 30


def test_an_upload_that_is_no_plot_is_refused_with_a_sentence(stack: Stack) -> None:
    token = mint(stack.settings.secret("livedata-tokens"), "plot-upload", {"instrument": "HYS", "run": "9"}, 60)
    url = stack.url("livedata", "/plots/hys/9/upload_plot_data/")
    headers = {"Authorization": f"Bearer {token}"}
    for content in (b"\xff\xfe\x00 not a plot", b"just words"):
        reply = httpx.post(url, headers=headers, files={"file": content}, timeout=10)
        assert reply.status_code == 400
        assert "plot" in reply.text.lower()
    assert httpx.post(url, headers=headers, timeout=10).status_code == 400
    assert stack.get("livedata", "/plots/hys/9/update/html/").status_code == 404
