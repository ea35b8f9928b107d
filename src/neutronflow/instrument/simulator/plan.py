"""Who takes runs with the simulated instrument: the first ones at once, then one every so often.

What is begun and when the next is due stands in a file, so that neither a restart of this process nor one of the stream
service changes the plan: a run that is still going on at the restart goes on until it is due to end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.simulator.runcontrol import RunControlFailed, State
from neutronflow.instrument.simulator.settings import SimulatorSettings

log = get_logger(__name__)

T = TypeVar("T")

#: What the runs measure in turn: temperatures of the sample, in K.
TEMPERATURES_K: Final = (300.0, 280.0, 320.0, 250.0, 300.0, 350.0)
#: A scan of so many points takes place in each run.
_SCAN_POINTS: Final = 3
#: Between two of the first runs, and between two questions to a service that does not answer.
_PAUSE_S: Final = 2.0
#: How often is looked whether a run is still going on.
_LOOK_S: Final = 5.0
#: Markers are no reason to keep on trying for longer than this.
_MARKER_TRIES: Final = 2


class Control(Protocol):
    """What the plan needs of run control."""

    async def state(self) -> State:
        """What the stream service is doing."""

    async def start(self, description: dict[str, Any]) -> int:
        """Begin a run."""

    async def stop(self) -> int:
        """End the run."""

    async def annotate(self, marker: str, *, scan_index: int = 0, comment: str = "") -> None:
        """Write a marker into the stream."""


class Devices(Protocol):
    """What the plan moves."""

    def move(self, temperature_k: float) -> None:
        """Set the temperature of the sample."""

    def scan(self, index: int, title: str) -> None:
        """Say which point of a scan is measured; 0: none."""


class Progress(msgspec.Struct, kw_only=True):
    """How far the plan has come. Times are Unix seconds."""

    #: Runs that have ended.
    done: int = 0
    #: When the next run may begin.
    next_at: float = 0.0
    #: Since when a run was wanted; 0: none is.
    wanted_at: float = 0.0
    #: The run going on, 0 where its number is not known (yet).
    run_number: int = 0


class Plan:
    """Takes runs until the plan is done, or cancelled."""

    def __init__(
        self, settings: SimulatorSettings, control: Control, devices: Devices, file: Path,
        *, now: Callable[[], float] = time.time, pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._control = control
        self._devices = devices
        self._file = file
        self._now = now
        self._pause = pause
        self.progress = _read(file)

    async def run(self) -> None:
        """Take runs. Returns when there are no more to take."""
        progress, settings = self.progress, self._settings
        while not settings.runs or progress.done < settings.runs:
            resumed = progress.wanted_at > 0.0
            if not resumed:
                await self._pause(max(0.0, min(progress.next_at - self._now(), settings.every_s)))
            self._devices.move(self._temperature())
            if not resumed:
                await self._until_idle()
                progress.wanted_at, progress.run_number = self._now(), 0
            started_at = await self._begin()
            if started_at is not None:
                await self._measure(started_at)
                await self._end()
            progress.next_at = self._next(started_at or progress.wanted_at)
            progress.done += 1
            progress.wanted_at, progress.run_number = 0.0, 0
            self._save()
        log.info("plan_done", runs=progress.done)

    def description(self) -> dict[str, Any]:
        """What run control is told of the run that is next."""
        temperature = self._temperature()
        return {
            "proposal_id": self._settings.experiment,
            "proposal_title": "Simulated powder diffraction (placeholder experiment)",
            "run_title": f"Si standard, {temperature:g} K (simulated)",
            "sample": {
                "id": "99001",
                "name": "Si standard",
                "nature": "powder",
                "chemical_formula": "Si",
                "mass": "2.0",
                "mass_units": "g",
                "description": "simulated silicon powder",
            },
            "users": [{"name": "Simulated User", "id": "sim", "role": "Principal Investigator"}],
        }

    async def _until_idle(self) -> None:
        """Wait while a run goes on that somebody else has begun."""
        told = False
        while (await self._asked("state", self._control.state)).recording:
            if not told:
                log.info("waiting_for_another_run")
                told = True
            await self._pause(_LOOK_S)

    async def _begin(self) -> float | None:
        """When the wanted run began, in Unix seconds; it is begun now unless it was before. None: it has ended already."""
        progress, refused = self.progress, ""
        while True:
            state = await self._asked("state", self._control.state)
            # Run starts are told in whole seconds.
            ours = state.run_number == progress.run_number if progress.run_number else (
                state.run_start >= progress.wanted_at - 1.0
            )  # fmt: skip
            if state.recording and ours:
                progress.run_number = state.run_number
                self._save()
                return max(state.run_start, progress.wanted_at)
            if progress.run_number:
                log.warning("run_ended_by_another", run_number=progress.run_number)
                return None
            if state.recording:
                await self._pause(_LOOK_S)
                continue
            # A run that began since then is this one, even if the answer should be lost.
            progress.wanted_at = self._now()
            self._save()
            try:
                progress.run_number = await self._control.start(self.description())
            except RunControlFailed as error:
                if str(error) != refused:
                    refused = str(error)
                    log.warning("run_not_started", detail=refused)
                await self._pause(_PAUSE_S)
                continue
            self._save()
            log.info("run_started", run_number=progress.run_number)
            return self._now()

    async def _measure(self, started_at: float) -> None:
        """Stay until the run is due to end, with a scan in it."""
        length = self._length()
        title = f"Si at {self._temperature():g} K"
        if started_at > self._now() - 0.1 * length:
            await self._mark("run_comment", comment=f"Simulated run of {length:g} s")
        for point in range(1, _SCAN_POINTS + 1):
            begin = started_at + length * (0.1 + 0.8 * (point - 1) / _SCAN_POINTS)
            end = started_at + length * (0.1 + 0.8 * (point - 0.1) / _SCAN_POINTS)
            if self._now() > end or not await self._still(begin):
                continue
            self._devices.scan(point, title)
            await self._mark("scan_start", scan_index=point, comment=title)
            await self._still(end)
            self._devices.scan(0, "none")
            await self._mark("scan_stop", scan_index=point)
        await self._still(started_at + length)

    async def _still(self, until: float) -> bool:
        """Wait until a time; False, at once, when the run has ended before."""
        while (left := until - self._now()) > 0.0:
            await self._pause(min(left, _LOOK_S))
            try:
                state = await self._control.state()
            except RunControlFailed:
                continue  # it may be back before the run's end
            if not state.recording or state.run_number != self.progress.run_number:
                return False
        return True

    async def _mark(self, marker: str, *, scan_index: int = 0, comment: str = "") -> None:
        for attempt in range(_MARKER_TRIES):
            try:
                await self._control.annotate(marker, scan_index=scan_index, comment=comment)
            except RunControlFailed as error:
                log.warning("marker_not_taken", marker=marker, detail=str(error))
                if attempt + 1 < _MARKER_TRIES:
                    await self._pause(_PAUSE_S)
            else:
                return

    async def _end(self) -> None:
        """End the run, unless it has ended."""
        while True:
            state = await self._asked("state", self._control.state)
            if not state.recording or state.run_number != self.progress.run_number:
                return
            try:
                await self._control.stop()
            except RunControlFailed as error:
                log.warning("run_not_stopped", detail=str(error))
                await self._pause(_PAUSE_S)
            else:
                log.info("run_stopped", run_number=state.run_number)
                return

    async def _asked(self, what: str, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question that is asked until there is one."""
        failures = 0
        while True:
            try:
                answer = await question()
            except RunControlFailed as error:
                failures += 1
                if failures == 1:
                    log.warning("run_control_away", what=what, detail=str(error))
                await self._pause(_PAUSE_S)
            else:
                if failures:
                    log.info("run_control_back", what=what, failures=failures)
                return answer

    def _temperature(self) -> float:
        return TEMPERATURES_K[self.progress.done % len(TEMPERATURES_K)]

    def _length(self) -> float:
        settings = self._settings
        return settings.first_run_s if self.progress.done < settings.first_runs else settings.run_s

    def _next(self, started_at: float) -> float:
        """When the run after the present one may begin."""
        settings = self._settings
        if self.progress.done + 1 < settings.first_runs:
            return self._now() + _PAUSE_S
        return max(started_at + settings.every_s, self._now() + _PAUSE_S)

    def _save(self) -> None:
        partial = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(msgspec.json.encode(self.progress))
            partial.replace(self._file)
        except OSError as error:
            # Runs are taken all the same; only a restart would not know of this one.
            log.warning("plan_not_saved", path=str(self._file), detail=str(error))


def _read(file: Path) -> Progress:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("plan_begins_anew", path=str(file), detail=str(error))
        return Progress()
