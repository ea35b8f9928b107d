"""The heart of the stream service: what sources send becomes the stream in the spool, within or without a run."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from neutronflow.domain.adara.clock import Stamp, now
from neutronflow.domain.adara.eventpackets import RawEvents, Rtdl
from neutronflow.domain.adara.packets import Annotation, MarkerType, decode, encode
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX, BadPacket, Packet, PacketType
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import Facilities
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.stream.announcements import Announcer
from neutronflow.instrument.stream.assembly import PulseAssembler
from neutronflow.instrument.stream.errors import RunRefused
from neutronflow.instrument.stream.recovery import Told, describe, recover
from neutronflow.instrument.stream.runinfo import RunDescription, run_info
from neutronflow.instrument.stream.runnumber import RunNumbers
from neutronflow.instrument.stream.sending import Sender
from neutronflow.instrument.stream.sources import Source
from neutronflow.instrument.stream.spool import Container, Spool
from neutronflow.instrument.stream.state import StreamState

log = get_logger(__name__)

_EVENTS: Final = (PacketType.RAW_EVENT, PacketType.MAPPED_EVENT, PacketType.RTDL)
_VALUES: Final = range(PacketType.VARIABLE_U32, PacketType.MULTI_VARIABLE_DOUBLE_ARRAY + 1)
#: Pulses are looked after so often, also when nothing comes.
_TICK_S: Final = 0.1
#: A run that was being taken goes on after a restart, unless it was away for longer.
RESUME_WITHIN_S: Final = 300.0
#: Less than this without data is no gap worth telling.
_GAP_S: Final = 1.0
#: Stamps of pulses outside of these are wrong: 2006, and a week ahead.
_EARLIEST: Final = 512715600
_AHEAD_S: Final = 7 * 86400


class Recorder:
    """Takes packets and people's (or a program's) commands, one at a time."""

    def __init__(
        self,
        *,
        beamline: BeamlineSettings,
        known: Facilities,
        state: StreamState,
        assembler: PulseAssembler,
        spool: Spool,
        numbers: RunNumbers,
        announcer: Announcer,
        sender: Sender,
        sources: list[Source],
    ) -> None:
        self._beamline = beamline
        self._known = known
        self._state = state
        self._assembler = assembler
        self._spool = spool
        self._numbers = numbers
        self._announcer = announcer
        self._sender = sender
        self._sources = sources
        self._lock = asyncio.Lock()
        self._paused = False
        #: Since when a detector source is away, Unix seconds.
        self._away: dict[str, float] = {}

    @property
    def recording(self) -> Container | None:
        """The run that is being taken."""
        container = self._spool.current
        return container if container.run else None

    async def begin(self) -> None:
        """Find out what was going on, and go on with it."""
        self._spool.scan()
        for container in self._spool.containers:
            if container.run:
                told = describe(container)
                container.start = told.start
                self._announcer.experiments[container.run] = told.experiment
        last = self._spool.containers[-1] if self._spool.containers else None
        if last is None or not last.run:
            self._spool.begin(0, 0, self._state.prologue())
        else:
            await self._go_on(last)
        await self._spool.flush()
        for container in self._sender.pending():
            self._sender.add(container)

    async def _go_on(self, last: Container) -> None:
        told = recover(last, self._state)
        if told.ended:
            self._spool.begin(0, 0, self._state.prologue())
            return
        self._state.resume_run(told.run_info)
        for annotation, packet in told.annotations:
            self._state.mark(annotation, packet)
        self._spool.resume(last)
        self._paused = last.files[-1].paused
        self._sender.add(last)
        self._tell_gap(told, last)
        if time.time() - told.last_pulse > RESUME_WITHIN_S:
            log.warning("run_ended_after_gap", run=last.run)
            await self._end_run(last)
        else:
            log.warning("run_resumed_after_gap", run=last.run)

    def _tell_gap(self, told: Told, container: Container) -> None:
        why = "the stream service was not running"
        sentence = self._announcer.gap(container, told.last_pulse, time.time(), why)
        self._annotate(MarkerType.GENERIC, 0, f"[Run {container.run}] Gap: {sentence}")

    async def look_after(self) -> None:
        """Pass on pulses that have waited long enough, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            async with self._lock:
                await self._pass_on()

    async def came(self, source: Source) -> None:
        """A source has connected."""
        since = self._away.pop(source.name, None)
        container = self.recording
        if since is None or container is None or not source.detectors:
            return
        async with self._lock:
            why = f"the source '{source.name}' was not there"
            sentence = self._announcer.gap(container, since, time.time(), why)
            self._annotate(MarkerType.GENERIC, 0, f"[Run {container.run}] Gap: {sentence}")
            await self._spool.flush()

    async def lost(self, source: Source) -> None:
        """A source has gone."""
        async with self._lock:
            self._assembler.disconnected(source.name)
            if source.detectors:
                self._away[source.name] = time.time()
            values = self._state.disconnected(source.name)
            if values:
                self._spool.append(values)
            await self._pass_on()

    async def take(self, source: Source, packets: list[Packet]) -> None:
        """Take what a source has sent. What cannot be understood is kept for inspection; the rest goes on."""
        async with self._lock:
            for packet in packets:
                try:
                    self._take(source, packet)
                except (BadPacket, ValueError) as error:
                    source.keep(bytes(packet.payload), f"packet type {packet.base:#06x}: {error}")
            await self._pass_on()

    def _take(self, source: Source, packet: Packet) -> None:
        base = packet.base
        if base in _EVENTS:
            if not _EARLIEST <= packet.seconds < time.time() - EPICS_EPOCH_UNIX + _AHEAD_S:
                raise ValueError(f"a pulse cannot be at {packet.seconds} s after 1990")
            content = decode(packet)
            if isinstance(content, RawEvents | Rtdl):
                self._assembler.take(source.name, packet, content)
        elif base == PacketType.DEVICE_DESCRIPTOR:
            decode(packet)
            self._pass(self._state.descriptor(source.name, packet))
        elif base in _VALUES:
            decode(packet)
            self._pass(self._state.value(source.name, packet))
        # Others (SOURCE_LIST, HEARTBEAT, annotations) are heard and not passed on.

    def _pass(self, packet: bytes | None) -> None:
        if packet is not None:
            self._spool.append(packet)

    async def _pass_on(self) -> None:
        for packets in self._assembler.finished():
            self._spool.append(packets)
        await self._spool.flush()

    async def start_run(self, description: RunDescription) -> int:
        """Start a run; its number. Raises :class:`RunRefused` where that cannot be."""
        async with self._lock:
            if self.recording is not None:
                raise RunRefused(detail=f"Run {self.recording.run} is being taken")
            away = [one.name for one in self._sources if one.detectors and not one.status.connected]
            if away:
                raise RunRefused(detail=f"The source {', '.join(away)} is not connected")
            try:
                experiment = self._known.experiment(self._beamline.facility, description.proposal_id)
            except NeutronflowError as error:
                raise RunRefused(detail=str(error)) from error
            await self._pass_on()
            try:
                number = self._numbers.take()
                self._begin(number, description, experiment)
            except (OSError, ValueError) as error:
                self._state.end_run()
                raise RunRefused(detail=f"The run cannot be written: {error}") from error
            await self._spool.flush()
            container = self._spool.current
            self._sender.add(container)
            self._announcer.run(container, "SMS run started")
            log.info("run_started", run=number, experiment=experiment)
            return number

    def _begin(self, number: int, description: RunDescription, experiment: str) -> None:
        stamp = now()
        self._announcer.experiments[number] = experiment
        started = _annotation(MarkerType.GENERIC, 0, f"Run {number} Started.", stamp)
        self._state.begin_run(run_info(description, self._beamline, number), stamp, started)
        self._spool.begin(number, stamp[0], self._state.prologue(beginning=True))

    async def stop_run(self) -> int:
        """End the run; its number. Raises :class:`RunRefused` where none is being taken."""
        async with self._lock:
            container = self._recording()
            await self._end_run(container)
            return container.run

    async def _end_run(self, container: Container) -> None:
        await self._pass_on()
        self._annotate(MarkerType.GENERIC, 0, f"Run {container.run} Stopped.")
        await self._spool.end_run()
        self._state.end_run()
        self._paused = False
        while True:
            try:
                self._spool.begin(0, 0, self._state.prologue())
                break
            except OSError as error:
                log.error("spool_not_written", detail=str(error))
                await asyncio.sleep(1.0)
        await self._spool.flush()
        self._announcer.run(container, "SMS run stopped")
        log.info("run_stopped", run=container.run, bytes=container.size)

    async def pause(self, *, paused: bool) -> int:
        """Pause or resume the run; its number."""
        async with self._lock:
            container = self._recording()
            if paused == self._paused:
                raise RunRefused(detail=f"Run {container.run} is {'paused' if paused else 'not paused'} already")
            await self._pass_on()
            word, marker = ("Paused", MarkerType.PAUSE) if paused else ("Resumed", MarkerType.RESUME)
            if paused:
                self._annotate(marker, 0, f"Run {container.run} {word}.")
            await self._spool.change_mode(paused=paused)
            if not paused:
                self._annotate(marker, 0, f"Run {container.run} {word}.")
            self._paused = paused
            await self._spool.flush()
            self._announcer.run(container, f"SMS run {word.lower()}")
            return container.run

    async def annotate(self, marker: MarkerType, scan_index: int, comment: str) -> None:
        """Put a marker into the stream."""
        async with self._lock:
            container = self.recording
            of_run = f"[Run {container.run}] " if container is not None else ""
            text = comment
            if marker in (MarkerType.SCAN_START, MarkerType.SCAN_STOP):
                word = "Started" if marker is MarkerType.SCAN_START else "Stopped"
                text = f"{of_run}Scan #{scan_index} {word}." + (f" {comment}" if comment else "")
            elif container is None:
                text = f"[PRE-RUN] {comment}"
            self._annotate(marker, scan_index, text)
            await self._spool.flush()

    def state(self) -> dict[str, Any]:
        """What is going on, for machines."""
        container, counters = self.recording, self._assembler.counters
        return {
            "recording": container is not None,
            "run_number": container.run if container is not None else 0,
            "run_start": container.start + EPICS_EPOCH_UNIX if container is not None else 0,
            "paused": self._paused,
            "pulses": counters.pulses,
            "events": counters.events,
            "monitor_events": counters.monitor_events,
            "error_events": counters.error_events,
            "unmapped_events": counters.unmapped_events,
            "partial_pulses": counters.partial_pulses,
            "late_packets": counters.late_packets,
            "not_translated": self._sender.waiting,
            "sources": {
                one.name: {
                    "connected": one.status.connected,
                    "since": one.status.since,
                    "heard": one.status.heard,
                    "packets": one.status.packets,
                    "bytes": one.status.bytes,
                    "bad": one.status.bad,
                }
                for one in self._sources
            },
        }

    def _recording(self) -> Container:
        if self.recording is None:
            raise RunRefused(detail="No run is being taken")
        return self.recording

    def _annotate(self, marker: MarkerType, scan_index: int, comment: str) -> None:
        annotation = Annotation(
            marker, scan_index, comment, reset_hint=marker in (MarkerType.SCAN_START, MarkerType.SCAN_STOP)
        )
        packet = encode(annotation, *now())
        self._state.mark(annotation, packet)
        self._spool.append(packet)


def _annotation(marker: MarkerType, scan_index: int, comment: str, stamp: Stamp) -> bytes:
    return encode(Annotation(marker, scan_index, comment), *stamp)
