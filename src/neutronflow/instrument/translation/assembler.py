"""One run's stream in, one NeXus file out: cuts the stream, keeps its state, and drives the writer.

Bytes are taken in pieces of any size. Events are handled in blocks of whole pulses: the last pulse of what has arrived waits
for the next one to begin, so that all packets of a pulse stand in one block.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.events import Demultiplexer, Scan, Scratch, last_pulse, scan
from neutronflow.domain.adara.packets import (
    Annotation,
    AnyPacket,
    BeamlineInfo,
    BeamMonitorConfig,
    DetectorBankSets,
    DeviceDescriptor,
    Empty,
    Geometry,
    MarkerType,
    MultiVariableValue,
    PixelMapping,
    RunInfo,
    RunStatus,
    RunStatusCode,
    VariableValue,
    decode,
)
from neutronflow.domain.adara.pixelmap import Pixels, bank_pixels
from neutronflow.domain.adara.scalars import SCALAR_TYPES, scalars
from neutronflow.domain.adara.wire import (
    EPICS_EPOCH_UNIX,
    HEADER_BYTES,
    MAX_PACKET_BYTES,
    BadPacket,
    Packet,
    PacketType,
    TruncatedStream,
)
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.instrument.translation.description import RunDescription
from neutronflow.instrument.translation.logs import ProcessVariables
from neutronflow.instrument.translation.nexus import Header, Markers, NexusWriter
from neutronflow.instrument.translation.outcome import Identity, Translated
from neutronflow.instrument.translation.problems import Problems

#: How much is gathered before it is worked on. Large enough that per-block costs vanish, small enough to stay in caches.
BLOCK_BYTES = 4 << 20
_HEADER = struct.Struct("<IIII")
#: The bit of a monitor's format, or of a bank set's flags, that asks for a histogram.
_HISTOGRAM = 2
_PULSE_TYPES = (PacketType.BANKED_EVENT, PacketType.BANKED_EVENT_STATE, PacketType.BEAM_MONITOR_EVENT)
#: More than this for one pulse is worked on without waiting for its end.
_MOST_BYTES = 2 * MAX_PACKET_BYTES


class UnusableStream(NeutronflowError):
    """The stream cannot be translated: {detail}."""

    code = "unusable-stream"


class IncompleteStream(NeutronflowError):
    """The stream ended at byte offset {offset} without the end of its run."""

    code = "incomplete-stream"


class Assembler:
    """Translates one run into ``path``. ``feed`` what arrives, then ``finish``; or ``salvage`` or ``abandon``.

    Or let the stream be received into ``space()`` and tell with ``received`` how much came. What is held of a stream is one
    block, a chunk of each column, and the values of its process variables, which are written at the end.
    """

    def __init__(self, path: Path, file_name: str = "") -> None:
        self._path = path
        #: What the file says that it is called: its later name, where that is known already.
        self._file_name = file_name or path.name
        #: Its first ``_held`` bytes are those of the stream from ``_offset`` on.
        self._buffer = memoryview(bytearray(BLOCK_BYTES))
        self._held = 0
        self._offset = 0
        self._scratch = Scratch()
        self._writer: NexusWriter | None = None
        self._demultiplexer = Demultiplexer()
        self._problems = Problems()
        self._variables = ProcessVariables(self._problems)
        self._markers = Markers()
        self._pixels: dict[int, tuple[Pixels, Pixels]] | None = None
        self.beamline: BeamlineInfo | None = None
        self._geometry: str | None = None
        self._monitors: BeamMonitorConfig | None = None
        self._bank_sets: DetectorBankSets | None = None
        self._seen_annotations: set[tuple[int, Annotation]] = set()
        self.description: RunDescription | None = None
        self.run_number = 0
        self._run_start_ns = 0
        self._last_time_ns = 0
        #: The run's end was seen.
        self.ended = False
        #: The sender has said that nothing more will come.
        self.data_done = False

    @property
    def offset(self) -> int:
        """How many bytes of the stream have come."""
        return self._offset + self._held

    @property
    def identity(self) -> Identity:
        """Whose run it is, as far as the stream has said so."""
        said: dict[str, str] = {}
        if self.description is not None:
            said["facility"] = self.description.text("facility_name").strip()
            said["experiment"] = self.description.text("proposal_id").strip()
        if self.beamline is not None:
            said["long_name"], said["short_name"] = self.beamline.long_name, self.beamline.short_name
        return Identity(run_number=self.run_number, **said)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises :class:`BadPacket` or :class:`UnusableStream`, after which this run cannot be saved."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            self.received(count)
            rest = rest[count:]

    def space(self) -> memoryview:
        """Where the next bytes of the stream belong: at least one byte, writable, valid until the next call of anything."""
        return self._buffer[self._held :]

    def received(self, count: int) -> None:
        """So many bytes stand in the space now. Raises as :meth:`feed` does."""
        self._held += count
        if self._held == len(self._buffer):
            self._work(final=False)
        if self._held == len(self._buffer):
            self._grow()

    def flush(self) -> None:
        """Work on what has come, though it is little: for streams that trickle."""
        if self._held:
            self._work(final=False)

    def finish(self) -> Translated:
        """The stream has ended: complete the file. Raises where it did not end as a run's stream has to."""
        self._work(final=True)
        if self._held:
            raise self._truncated()
        if not self.ended:
            raise IncompleteStream(offset=self.offset)
        writer = self._writer or self._open()
        events = writer.finish()
        description, beamline = self._required()
        return Translated(
            run_number=self.run_number,
            facility=description.text("facility_name").strip(),
            experiment=description.text("proposal_id").strip(),
            beamline=beamline,
            pulses=writer.pulses,
            events=events,
            stream_bytes=self.offset,
            problems=self._problems.as_dict(),
            simulated=description.simulated,
        )

    def salvage(self, reason: str) -> None:
        """Complete the file with what has come so far, for inspection, and say in it that the stream ended too early."""
        if self._writer is None or self._writer.finished:
            return
        self._problems.count(reason)
        self._markers.comments.append((self._last_time_ns, "Stream processing terminated abnormally."))
        self._writer.finish()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._writer is not None:
            self._writer.abandon()

    def _grow(self) -> None:
        """Make room for a pulse, or a packet, that is larger than the buffer."""
        larger = memoryview(bytearray(2 * len(self._buffer)))
        larger[: self._held] = self._buffer[: self._held]
        self._buffer = larger

    def _truncated(self) -> BadPacket:
        missing = HEADER_BYTES
        if self._held >= HEADER_BYTES:
            missing += _HEADER.unpack_from(self._buffer)[0]
        return TruncatedStream(offset=self._offset, end=self.offset, missing=missing - self._held, detail="truncated")

    def _work(self, *, final: bool) -> None:
        words = np.frombuffer(self._buffer, np.uint32, count=self._held // 4)
        found = scan(words, self._offset, self._scratch)
        cut, used = self._cut(words, found, final=final)
        found = Scan(found.at[:cut], found.base[:cut], used)
        self._take_packets(words, found)
        if self._needs_events(found):
            self._take_events(words, found)
        rest = self._buffer[4 * used : self._held]
        self._buffer[: len(rest)] = rest
        self._held = len(rest)
        self._offset += 4 * used

    def _take_events(self, words: npt.NDArray[np.uint32], found: Scan) -> None:
        block = self._demultiplexer.block(words, found, self._offset)
        if block.undefined:
            self._problems.count("events of a bank that no pixel map defines", block.undefined)
        if block.duplicates:
            self._problems.count("duplicate pulses, left out", block.duplicates)
        states = int((found.base == PacketType.BANKED_EVENT_STATE).sum())
        if states:
            self._problems.count("pulses sorted by neutron state: their events are kept by bank alone", states)
        if len(block.pulse_id):
            (self._writer or self._open()).append(block)

    def _cut(self, words: npt.NDArray[np.uint32], found: Scan, *, final: bool) -> tuple[int, int]:
        """How many packets to work on now, and how many words they are."""
        last = last_pulse(words, found)
        # Nothing follows DATA_DONE, and its sender waits for an answer.
        final = final or bool((found.base[max(last, 0) :] == PacketType.DATA_DONE).any())
        if final or last < 0 or self._held > _MOST_BYTES or self._long_past_events(found, last):
            return len(found.at), found.end
        return last, int(found.at[last])

    def _long_past_events(self, found: Scan, last: int) -> bool:
        """Whether so much has come after the last event packet that its pulse is over: a paused run, without beam."""
        if 4 * (found.end - int(found.at[last])) < BLOCK_BYTES // 2:
            return False
        after = int(np.flatnonzero(np.isin(found.base, _PULSE_TYPES))[-1]) + 1
        return after < len(found.at) and 4 * (found.end - int(found.at[after])) >= BLOCK_BYTES // 2

    def _needs_events(self, found: Scan) -> bool:
        if not np.isin(found.base, _PULSE_TYPES).any():
            return False
        if not self.run_number:
            raise UnusableStream(detail="events came before the run began")
        return True

    def _take_packets(self, words: npt.NDArray[np.uint32], found: Scan) -> None:
        """Everything but events: single numbers together, the others, which are few, one by one."""
        ends = np.append(found.at[1:], found.end)
        alone = ~np.isin(found.base, (*_PULSE_TYPES, PacketType.RTDL))
        # A descriptor may change what the values before and behind it belong to.
        together = not (found.base == PacketType.DEVICE_DESCRIPTOR).any()
        if together:
            alone &= ~np.isin(found.base, SCALAR_TYPES)
        for i in np.flatnonzero(alone):
            start, end = 4 * int(found.at[i]), 4 * int(ends[i])
            _, form, seconds, nanoseconds = _HEADER.unpack_from(self._buffer, start)
            payload = self._buffer[start + HEADER_BYTES : end]
            self._take(Packet(form >> 8, form & 0xFF, seconds, nanoseconds, payload, self._offset + start))

        if together:
            self._variables.log_scalars(scalars(words, found, self._offset))

    def _take(self, packet: Packet) -> None:
        self._last_time_ns = packet.time_ns
        match decode(packet):
            case RunStatus() as status:
                self._take_status(packet, status)
            case VariableValue() as update:
                self._variables.log(packet.time_ns, update)
            case MultiVariableValue() as updates:
                for offset_ns, value in updates.values:
                    one = VariableValue(
                        updates.device_id, updates.variable_id, updates.status, updates.severity, updates.kind, value
                    )
                    self._variables.log(packet.time_ns + offset_ns, one)
            case DeviceDescriptor() as descriptor:
                self._variables.define(descriptor)
            case Annotation() as annotation:
                self._take_annotation(packet.time_ns, annotation)
            case Empty(data_done=True):
                self.data_done = True
            case described:
                self._take_description(packet, described)

    def _take_description(self, packet: Packet, described: AnyPacket) -> None:
        """What every file of a stream repeats: the first counts, but for RUN_INFO."""
        match described:
            case RunInfo() as info:
                self._take_info(packet, info)
            case BeamlineInfo() as beamline:
                self.beamline = self.beamline or beamline
            case Geometry() as geometry:
                self._geometry = geometry.xml if self._geometry is None else self._geometry
            case PixelMapping() as mapping if self._pixels is None and self._writer is None:
                self._pixels = bank_pixels(mapping)
                for bank in sorted(self._pixels):
                    self._demultiplexer.register(bank)
            case BeamMonitorConfig() as monitors if self._monitors is None:
                self._take_monitors(monitors)
            case DetectorBankSets() as sets if self._bank_sets is None:
                self._take_bank_sets(sets)

    def _take_status(self, packet: Packet, status: RunStatus) -> None:
        if status.status in (RunStatusCode.NO_RUN, RunStatusCode.PROLOGUE):
            return
        if self.run_number and status.run_number not in (0, self.run_number):
            raise BadPacket(
                offset=packet.offset, detail=f"run {status.run_number} begins inside of run {self.run_number}"
            )
        if status.status is RunStatusCode.NEW_RUN:
            self.run_number = status.run_number
            self._run_start_ns = (status.run_start + EPICS_EPOCH_UNIX) * 1_000_000_000
        elif status.status is RunStatusCode.END_RUN:
            self.ended = True

    def _take_monitors(self, config: BeamMonitorConfig) -> None:
        self._monitors = config
        for monitor in config.monitors:
            if monitor.format == _HISTOGRAM:
                self._problems.count(
                    f"beam monitor {monitor.monitor_id} is configured as a histogram: its events are kept instead"
                )

    def _take_bank_sets(self, sets: DetectorBankSets) -> None:
        self._bank_sets = sets
        for one in sets.sets:
            if one.flags & _HISTOGRAM:
                self._problems.count(
                    f"bank set '{one.name}' asks for a histogram of {len(one.banks)} banks: their events are kept instead"
                )

    def _take_info(self, packet: Packet, info: RunInfo) -> None:
        try:
            self.description = RunDescription(info)
        except ValueError as error:
            raise BadPacket(offset=packet.offset, detail=f"RUN_INFO: {error}") from error
        if self._writer is not None:
            self._writer.describe(self.description)

    def _take_annotation(self, time_ns: int, annotation: Annotation) -> None:
        if (time_ns, annotation) in self._seen_annotations:
            return  # a file boundary repeats markers
        self._seen_annotations.add((time_ns, annotation))
        markers = self._markers
        match annotation.marker:
            case MarkerType.PAUSE:
                markers.pauses.append((time_ns, 1))
            case MarkerType.RESUME:
                markers.pauses.append((time_ns, 0))
            case MarkerType.SCAN_START:
                markers.scans.append((time_ns, annotation.scan_index))
            case MarkerType.SCAN_STOP:
                markers.scans.append((time_ns, 0))
            case MarkerType.OVERALL_RUN_COMMENT:
                self._take_notes(time_ns, annotation.comment)
                return
            case MarkerType.SYSTEM:
                return
        if annotation.comment:
            markers.comments.append((time_ns, annotation.comment))

    def _take_notes(self, time_ns: int, notes: str) -> None:
        markers = self._markers
        if markers.notes is None:
            markers.notes = (time_ns, notes)
        elif self.description is not None and self.description.notes_may_change:
            old_time, old = markers.notes
            markers.comments.append((old_time, f"[OVERWRITTEN RUN NOTES] {old}"))
            markers.notes = (time_ns, notes)
        else:
            markers.comments.append((time_ns, f"[DUPLICATE RUN NOTES] {notes}"))

    def _required(self) -> tuple[RunDescription, BeamlineInfo]:
        if not self.run_number:
            raise UnusableStream(detail="no run has begun in it")
        if self.description is None or self.beamline is None:
            raise UnusableStream(detail="it does not say which instrument and experiment the run belongs to")
        return self.description, self.beamline

    def _open(self) -> NexusWriter:
        description, beamline = self._required()
        header = Header(
            run_number=self.run_number,
            run_start_ns=self._run_start_ns,
            beamline=beamline,
            description=description,
            geometry=self._geometry or "",
            pixels=self._pixels or {},
            variables=self._variables,
            markers=self._markers,
            problems=self._problems,
        )
        self._writer = NexusWriter(self._path, self._file_name, header, self._demultiplexer.bank_ids)
        return self._writer
