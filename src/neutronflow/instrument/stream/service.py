"""``neutronflow stream``: the stream service as a process."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from neutronflow.domain.adara.packets import BeamlineInfo, BeamMonitorConfig, MonitorConfig
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings
from neutronflow.foundation.service import begin, listen, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.instrument.stream import control
from neutronflow.instrument.stream.announcements import Announcer
from neutronflow.instrument.stream.assembly import PulseAssembler
from neutronflow.instrument.stream.choppers import Choppers
from neutronflow.instrument.stream.errors import BeamlineFileMissing
from neutronflow.instrument.stream.live import LiveServer
from neutronflow.instrument.stream.pixels import read_pixel_map
from neutronflow.instrument.stream.recorder import Recorder
from neutronflow.instrument.stream.runnumber import RunNumbers
from neutronflow.instrument.stream.sending import Sender
from neutronflow.instrument.stream.settings import StreamSettings
from neutronflow.instrument.stream.sources import Source
from neutronflow.instrument.stream.spool import Spool
from neutronflow.instrument.stream.state import StreamState

log = get_logger(__name__)

_PURGE_EVERY_S = 30.0
#: Format of a beam monitor's events, and the time of flight up to which they are wanted: all.
_EVENTS = 1
_ALL_US = 0xFFFFFFFF


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    run_until_stopped(_serve(begin("stream")))
    return 0


async def _serve(settings: Settings) -> None:
    own = settings.section("stream", StreamSettings)
    beamline = settings.section("beamline", BeamlineSettings)
    folder = settings.data_dir / "stream"
    files = settings.data_dir / "beamline"
    pixel_map = read_pixel_map(own.pixel_map or files / "pixelmap")
    state = StreamState(
        BeamlineInfo(beamline.beamline_id, beamline.short_name, beamline.long_name, beamline.target_station),
        _geometry(own.geometry or files / "geometry.xml"),
        pixel_map.packet,
        BeamMonitorConfig(tuple(MonitorConfig(m.id, 0, _ALL_US, 1, m.distance_m, _EVENTS) for m in own.monitors)),
    )
    with (
        listen("stream", settings.core.bind, settings.port("live_stream")) as live_listener,
        listen("stream", settings.core.bind, settings.port("run_control")) as control_listener,
    ):
        async with Session.from_settings(settings, user="stream") as session:
            spool = Spool(
                folder / "spool", file_bytes=own.file_bytes, sync_bytes=own.sync_bytes, prologue=state.prologue
            )
            announcer = Announcer(session, beamline)
            sender = Sender(spool, own, settings.port("translator"), announcer)
            sources = _sources(settings, own, folder / "bad")
            recorder = Recorder(
                beamline=beamline,
                known=known_facilities(settings),
                state=state,
                assembler=PulseAssembler(
                    pixel_map, Choppers(state), wait_s=own.pulse_wait_s, max_pulses=own.max_pulses
                ),
                spool=spool,
                numbers=RunNumbers(folder / "next_run", own.first_run),
                announcer=announcer,
                sender=sender,
                sources=sources,
            )
            await recorder.begin()
            live = LiveServer(spool, own, lambda: state.prologue(joining=True))
            application = control.RunControl(recorder, settings.secret("run-control-token"))
            log.info("stream_ready", sources=len(sources), containers=len(spool.containers))
            try:
                async with asyncio.TaskGroup() as tasks:
                    for source in sources:
                        tasks.create_task(source.read_forever(recorder.take, recorder.came, recorder.lost))
                    tasks.create_task(recorder.look_after())
                    tasks.create_task(live.serve_forever(live_listener))
                    tasks.create_task(control.serve(application, control_listener))
                    tasks.create_task(_keep_spool(spool, own))
                    tasks.create_task(_sync(spool, own.disk_sync_s))
                    tasks.create_task(_tell(announcer, own.heartbeat_s))
                    tasks.create_task(announcer.tell_forever())
                    notify_ready("taking the stream")
            finally:
                await sender.stop()
                spool.close()


def _geometry(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BeamlineFileMissing(what="an instrument definition", path=path, detail=error) from error


def _sources(settings: Settings, own: StreamSettings, bad: Path) -> list[Source]:
    detectors = own.detector_sources or (f"127.0.0.1:{settings.port('detector_source')}",)
    slow = own.slow_control_sources or (f"127.0.0.1:{settings.port('slow_control_source')}",)
    named = [(f"detectors{number}", where, True) for number, where in enumerate(detectors, 1)]
    named += [(f"slow-controls{number}", where, False) for number, where in enumerate(slow, 1)]
    return [
        Source(name, where, detectors=of_detectors, silence_s=own.source_silence_s, bad_folder=bad)
        for name, where, of_detectors in named
    ]


async def _keep_spool(spool: Spool, own: StreamSettings) -> None:
    while True:
        await asyncio.sleep(_PURGE_EVERY_S)
        spool.purge(own.spool_bytes)


async def _sync(spool: Spool, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await spool.sync()
        except OSError as error:
            log.error("spool_not_synced", detail=str(error))


async def _tell(announcer: Announcer, every_s: float) -> None:
    while True:
        await announcer.alive()
        await asyncio.sleep(every_s)
