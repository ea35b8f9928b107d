"""The plan against a run control with a clock of its own; and its client against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from neutronflow.instrument.simulator.plan import Plan
from neutronflow.instrument.simulator.runcontrol import RunControl, RunControlFailed, State
from neutronflow.instrument.simulator.settings import SimulatorSettings


class Killed(BaseException):
    """The simulator's process is gone."""


class Beamline:
    """Run control, devices and the clock of a beamline. It is away in the intervals ``away``."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.number = 0
        self.begun: float | None = None
        #: (number, begin, end, title)
        self.runs: list[tuple[int, float, float, str]] = []
        self.title = ""
        self.markers: list[tuple[float, str, int]] = []
        self.temperatures: list[float] = []
        self.scans: list[int] = []
        self.away: list[tuple[float, float]] = []
        self.refuse_starts = 0
        self.lose_answers = 0
        self.kill_at = float("inf")

    async def pause(self, seconds: float) -> None:
        if self.time + seconds > self.kill_at:
            self.time, self.kill_at = self.kill_at, float("inf")
            raise Killed
        self.time += max(seconds, 0.01)
        await asyncio.sleep(0)

    async def until(self, when: float) -> None:
        while self.time < when:  # noqa: ASYNC110 - the clock tells nobody
            await asyncio.sleep(0)

    def _there(self) -> None:
        if any(begin <= self.time < end for begin, end in self.away):
            raise RunControlFailed(where="here", what="anything", detail="away")

    async def state(self) -> State:
        self._there()
        return State(
            recording=self.begun is not None,
            run_number=self.number if self.begun is not None else 0,
            # Whole seconds, as on the wire.
            run_start=float(int(self.begun or 0.0)),
        )

    async def start(self, description: dict[str, Any]) -> int:
        self._there()
        if self.refuse_starts or self.begun is not None:
            self.refuse_starts -= 1
            raise RunControlFailed(where="here", what="start", detail="503")
        self.number += 1
        self.begun, self.title = self.time, description["run_title"]
        if self.lose_answers:
            self.lose_answers -= 1
            raise RunControlFailed(where="here", what="start", detail="no answer")
        return self.number

    async def stop(self) -> int:
        self._there()
        assert self.begun is not None
        self.runs.append((self.number, self.begun, self.time, self.title))
        self.begun = None
        return self.number

    async def annotate(self, marker: str, *, scan_index: int = 0, comment: str = "") -> None:
        self._there()
        self.markers.append((self.time, marker, scan_index))

    def move(self, temperature_k: float) -> None:
        self.temperatures.append(temperature_k)

    def scan(self, index: int, title: str) -> None:
        self.scans.append(index)


def plan(beamline: Beamline, folder: Path, **changes: Any) -> Plan:
    settings = SimulatorSettings(**{"runs": 5, **changes})
    return Plan(settings, beamline, beamline, folder / "plan.json", now=lambda: beamline.time, pause=beamline.pause)


def test_the_first_runs_come_at_once_and_then_one_every_so_often(tmp_path: Path) -> None:
    beamline = Beamline()
    asyncio.run(plan(beamline, tmp_path).run())
    lengths = [end - begin for _, begin, end, _ in beamline.runs]
    assert lengths == pytest.approx([20, 20, 20, 120, 120], abs=0.5)
    begins = [begin for _, begin, _, _ in beamline.runs]
    assert begins[1] - begins[0] < 25
    assert begins[3] - begins[2] == pytest.approx(600, abs=1)
    assert begins[4] - begins[3] == pytest.approx(600, abs=1)
    assert [title for *_, title in beamline.runs][:2] == [
        "Si standard, 300 K (simulated)", "Si standard, 280 K (simulated)",
    ]  # fmt: skip
    assert beamline.temperatures == [300.0, 280.0, 320.0, 250.0, 300.0]


def test_each_run_has_a_scan_whose_points_stand_in_the_stream(tmp_path: Path) -> None:
    beamline = Beamline()
    asyncio.run(plan(beamline, tmp_path, runs=1).run())
    scans = [(marker, index) for _, marker, index in beamline.markers if marker.startswith("scan")]
    assert scans == [(marker, point) for point in (1, 2, 3) for marker in ("scan_start", "scan_stop")]
    assert beamline.scans == [1, 0, 2, 0, 3, 0]
    begin, end = beamline.runs[0][1:3]
    assert all(begin < time < end for time, marker, _ in beamline.markers if marker.startswith("scan"))


def test_a_stream_service_that_is_away_or_refuses_is_asked_again(tmp_path: Path) -> None:
    beamline = Beamline()
    beamline.away = [(1000.0, 1100.0), (1110.0, 1130.0), (1200.0, 1230.0)]
    beamline.refuse_starts = 3
    asyncio.run(plan(beamline, tmp_path, runs=3).run())
    assert len(beamline.runs) == 3
    assert beamline.runs[0][1] > 1100.0


def test_a_start_whose_answer_is_lost_is_not_made_twice(tmp_path: Path) -> None:
    beamline = Beamline()
    beamline.lose_answers = 1
    asyncio.run(plan(beamline, tmp_path, runs=2).run())
    assert [number for number, *_ in beamline.runs] == [1, 2]
    assert beamline.runs[0][2] - beamline.runs[0][1] == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize("killed_after", [0.5, 3.0, 9.0, 19.5, 20.5, 23.0, 44.5, 66.0, 300.0])
def test_a_killed_simulator_goes_on_where_it_was(tmp_path: Path, killed_after: float) -> None:
    beamline = Beamline()
    beamline.kill_at = beamline.time + killed_after
    with pytest.raises(Killed):
        asyncio.run(plan(beamline, tmp_path).run())
    beamline.time += 1.0
    asyncio.run(plan(beamline, tmp_path).run())
    assert [end - begin for _, begin, end, _ in beamline.runs] == pytest.approx([20, 20, 20, 120, 120], abs=3)
    # Temperatures in turn: no run was left out, none taken twice.
    assert [title.split()[2] for *_, title in beamline.runs] == ["300", "280", "320", "250", "300"]


def test_a_run_that_is_overdue_at_the_restart_is_stopped(tmp_path: Path) -> None:
    beamline = Beamline()
    beamline.kill_at = beamline.time + 10.0
    with pytest.raises(Killed):
        asyncio.run(plan(beamline, tmp_path).run())
    beamline.time += 500.0
    back = beamline.time
    asyncio.run(plan(beamline, tmp_path, runs=2).run())
    assert beamline.runs[0][2] == pytest.approx(back, abs=1.0)
    assert len(beamline.runs) == 2
    # The setpoint of a gateway that was started again is that of the run going on.
    assert beamline.temperatures == [300.0, 300.0, 280.0]


def test_the_run_of_somebody_else_is_let_alone(tmp_path: Path) -> None:
    beamline = Beamline()
    beamline.number, beamline.begun, beamline.title = 41, beamline.time - 100.0, "by hand"

    async def both() -> None:
        async def by_hand() -> None:
            await beamline.until(1300.0)
            await beamline.stop()

        await asyncio.gather(plan(beamline, tmp_path, runs=1).run(), by_hand())

    asyncio.run(both())
    assert [title for *_, title in beamline.runs] == ["by hand", "Si standard, 300 K (simulated)"]
    assert beamline.runs[0][2] >= 1300.0


def test_a_run_that_another_has_stopped_counts_as_done(tmp_path: Path) -> None:
    beamline = Beamline()

    async def both() -> None:
        async def by_hand() -> None:
            await beamline.until(1008.0)
            await beamline.stop()

        await asyncio.gather(plan(beamline, tmp_path, runs=2).run(), by_hand())

    asyncio.run(both())
    assert [number for number, *_ in beamline.runs] == [1, 2]


def test_a_broken_file_of_progress_begins_the_plan_anew(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{half")
    beamline = Beamline()
    asyncio.run(plan(beamline, tmp_path, runs=1).run())
    assert len(beamline.runs) == 1


class _Handler(BaseHTTPRequestHandler):
    asked: list[tuple[str, str, str | None, Any]] = []  # noqa: RUF012
    answer: tuple[int, bytes] = (200, b"{}")

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = json.loads(body) if body else None
        self.asked.append((self.command, self.path, self.headers["Authorization"], said))
        code, data = type(self).answer
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _do  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Handler.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_run_control_is_asked_as_agreed(server: str) -> None:
    async def talk() -> tuple[State, int]:
        control = RunControl(server, "secret")
        _Handler.answer = 200, b'{"recording": true, "run_number": 7, "run_start": 12, "sources": {}, "pulses": 1}'
        state = await control.state()
        _Handler.answer = 200, b'{"run_number": 8}'
        number = await control.start({"proposal_id": "IPTS-99001"})
        await control.annotate("scan_start", scan_index=3, comment="x")
        await control.stop()
        await control.close()
        return state, number

    state, number = asyncio.run(talk())
    assert (state, number) == (State(recording=True, run_number=7, run_start=12.0), 8)
    assert _Handler.asked == [
        ("GET", "/api/state", "Bearer secret", None),
        ("POST", "/api/run/start", "Bearer secret", {"proposal_id": "IPTS-99001"}),
        ("POST", "/api/annotation", "Bearer secret", {"marker": "scan_start", "scan_index": 3, "comment": "x"}),
        ("POST", "/api/run/stop", "Bearer secret", {}),
    ]


@pytest.mark.parametrize("answer", [(409, b'{"error": "recording"}'), (200, b"\xff"), (200, b'{"run_number": "x"}')])
def test_what_run_control_refuses_or_garbles_is_an_error_that_says_so(server: str, answer: tuple[int, bytes]) -> None:
    async def talk() -> None:
        control = RunControl(server, "secret")
        _Handler.answer = answer
        try:
            await control.start({})
        finally:
            await control.close()

    with pytest.raises(RunControlFailed, match="start"):
        asyncio.run(talk())


def test_a_run_control_that_is_not_there_is_an_error_that_says_so() -> None:
    async def talk() -> None:
        control = RunControl("http://127.0.0.1:1", "secret")
        try:
            await control.state()
        finally:
            await control.close()

    with pytest.raises(RunControlFailed, match="GET /api/state"):
        asyncio.run(talk())
