"""``neutronflow livereduce``: live pictures as a process."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from neutronflow.clients.livedata import LivePublisher, PublishFailed, Superseded
from neutronflow.clients.livestream import FROM_RUN_START, LiveStream
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import RunKey
from neutronflow.foundation.config import Settings
from neutronflow.foundation.service import begin, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.instrument.livereduce.figure import picture_json
from neutronflow.instrument.livereduce.histogram import LiveHistogram
from neutronflow.instrument.livereduce.settings import LivereduceSettings

log = get_logger(__name__)

#: Of failed publications one is logged in so many.
_COMPLAIN_EVERY: Final = 15


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes all it needs from the settings."""
    del parser


def run(_args: argparse.Namespace) -> int:
    """Make pictures until SIGTERM."""
    run_until_stopped(_serve(begin("livereduce")))
    return 0


async def _serve(settings: Settings) -> None:
    own = settings.section("livereduce", LivereduceSettings)
    beamline = settings.section("beamline", BeamlineSettings)
    port = own.port or settings.port("live_stream")
    histogram = LiveHistogram(own.tof_max_us, own.tof_bins)
    stream = LiveStream(own.host, port, start=FROM_RUN_START)
    url = own.livedata_url or f"http://127.0.0.1:{settings.port('livedata')}"
    async with LivePublisher(url, settings.secret("livedata-tokens")) as publisher, asyncio.TaskGroup() as tasks:
        tasks.create_task(stream.follow(histogram))
        tasks.create_task(publish_forever(histogram, publisher, beamline, own.publish_every_s))
        log.info("livereduce_ready", stream=f"{own.host}:{port}")
        notify_ready(f"following {beamline.short_name}")


async def publish_forever(
    histogram: LiveHistogram, publisher: LivePublisher, beamline: BeamlineSettings, every_s: float
) -> None:
    """Publish what there is, one picture after the other; a run that has another plot is left alone."""
    shown = (0, 0)
    superseded = 0
    failed = 0
    while True:
        await asyncio.sleep(every_s)
        picture = histogram.picture()
        if picture is None or picture.run_number == superseded or (picture.run_number, picture.total) == shown:
            continue
        key = RunKey(beamline.facility, beamline.short_name, picture.run_number)
        try:
            await publisher.publish(key, picture_json(picture, beamline.short_name))
            shown, failed = (picture.run_number, picture.total), 0
        except Superseded:
            superseded = picture.run_number
        except PublishFailed as error:
            if failed % _COMPLAIN_EVERY == 0:
                log.warning("picture_not_published", run=picture.run_number, detail=str(error))
            failed += 1
