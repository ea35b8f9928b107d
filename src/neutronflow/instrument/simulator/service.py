"""``neutronflow simulator``: the simulated diffractometer as a process."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.service import begin, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready, notify_status
from neutronflow.instrument.simulator.clients import Clients
from neutronflow.instrument.simulator.detector import DetectorSource
from neutronflow.instrument.simulator.janitor import Janitor
from neutronflow.instrument.simulator.layout import prepare
from neutronflow.instrument.simulator.plan import Plan
from neutronflow.instrument.simulator.pulses import Generator
from neutronflow.instrument.simulator.record import Record
from neutronflow.instrument.simulator.runcontrol import RunControl
from neutronflow.instrument.simulator.settings import SimulatorSettings
from neutronflow.instrument.simulator.slowcontrol import Controls, Heart, Variable, read_forever

log = get_logger(__name__)

_STATUS_EVERY_S = 10.0


class NotSimulated(NeutronflowError):
    """The beamline {beamline} is not a simulated one ([beamline] simulated = false): its simulator does not start."""

    code = "not-simulated"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--prepare", action="store_true", help="write the beamline's geometry and pixel map, then end")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, or only prepare the beamline's files."""
    settings = load() if args.prepare else begin("simulator")
    # A line a request says nothing new.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    beamline = settings.section("beamline", BeamlineSettings)
    if not beamline.simulated:
        raise NotSimulated(beamline=beamline.short_name)
    for path in prepare(beamline_folder(settings), beamline):
        print(f"Wrote {path}") if args.prepare else log.info("beamline_file_written", path=str(path))
    if not args.prepare:
        run_until_stopped(_serve(settings, beamline))
    return 0


def beamline_folder(settings: Settings) -> Path:
    """Where the files that describe the beamline lie."""
    return settings.data_dir / "beamline"


class _Devices:
    """What the plan moves, in terms of process variables."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def move(self, temperature_k: float) -> None:
        self._controls.set(self._controls.setpoint, temperature_k)

    def scan(self, index: int, title: str) -> None:
        self._controls.set(self._controls.scan_title, title)
        self._controls.set(self._controls.scan_index, index)


async def _serve(settings: Settings, beamline: BeamlineSettings) -> None:
    own = settings.section("simulator", SimulatorSettings)
    folder = settings.data_dir / "simulator"
    record = Record(folder / "records", own.record_minutes)
    janitor = Janitor(known_facilities(settings), beamline, record.folder, own.keep_bytes)
    # Before anything is begun: without it, there will be no runs.
    token = settings.secret("run-control-token") if own.take_runs else ""
    url = own.run_control_url or f"http://127.0.0.1:{settings.port('run_control')}"
    generator = Generator(own)
    host, buffer_bytes = settings.core.bind, own.client_buffer_bytes

    def changed(variable: Variable) -> None:
        record.reading(variable.reading())
        heart.send(variable.packet())

    controls = Controls(beamline.beamline_id, own.seed, changed)
    detector_port, slow_port = settings.port("detector_source"), settings.port("slow_control_source")
    async with (
        Clients("detector source", host, detector_port, buffer_bytes) as detectors,
        Clients("slow-control source", host, slow_port, buffer_bytes, controls.greeting) as listeners,
    ):
        heart = Heart(listeners, own.heartbeat_s)
        source = DetectorSource(generator, detectors, record.pulse)
        log.info("simulator_ready", detector_port=detector_port, slow_control_port=slow_port)
        notify_ready("beam is on")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(source.run())
                tasks.create_task(read_forever(controls, own.variables_every_s))
                tasks.create_task(heart.beat_forever(controls))
                tasks.create_task(janitor.run())
                tasks.create_task(_tell(source, detectors))
                if own.take_runs:
                    tasks.create_task(_take_runs(url, token, own, controls, folder))
        finally:
            record.close()


async def _take_runs(url: str, token: str, own: SimulatorSettings, controls: Controls, folder: Path) -> None:
    control = RunControl(url, token)
    try:
        await Plan(own, control, _Devices(controls), folder / "plan.json").run()
    finally:
        await control.close()


async def _tell(source: DetectorSource, clients: Clients) -> None:
    while True:
        await asyncio.sleep(_STATUS_EVERY_S)
        notify_status(f"{source.sent} pulses sent to {len(clients)} clients, {source.missed} missed")
