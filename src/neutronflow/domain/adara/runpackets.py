"""Packets about the run, the beamline and the connection."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, replace

from neutronflow.domain.adara.fields import Cursor, U32Array, padded, text_bytes, words
from neutronflow.domain.adara.wire import Packet
from neutronflow.domain.adara.xml import last_child_text, parse_xml

SYNC_SIGNATURE = bytes.fromhex("534e534144415241 4f524e4c0000f07f")


class RunStatusCode(enum.IntEnum):
    """Where in a run a RUN_STATUS packet stands."""

    NO_RUN = 0
    NEW_RUN = 1
    RUN_EOF = 2
    RUN_BOF = 3
    END_RUN = 4
    STATE = 5
    PROLOGUE = 6


class MarkerType(enum.IntEnum):
    """What a STREAM_ANNOTATION marks."""

    GENERIC = 0
    SCAN_START = 1
    SCAN_STOP = 2
    PAUSE = 3
    RESUME = 4
    OVERALL_RUN_COMMENT = 5
    SYSTEM = 6


@dataclass(frozen=True, slots=True)
class RunStatus:
    """RUN_STATUS. ``run_start`` is in EPICS seconds; ``file_word`` is mode index << 12 | file index (24 bits)."""

    run_number: int
    run_start: int
    status: RunStatusCode
    file_word: int
    paused: bool = False
    pause_file: int = 0
    addendum: bool = False
    addendum_file: int = 0
    version: int = 1

    @classmethod
    def read(cls, packet: Packet) -> RunStatus:
        """Decode version 0 (12 bytes) or later (20 bytes)."""
        cursor = Cursor(packet)
        run, start, status = cursor.words(3, "the run status")
        pause, addendum = cursor.words(2, "pause and addendum") if packet.version else (0, 0)
        if status >> 24 not in RunStatusCode._value2member_map_:
            raise cursor.fail(f"there is no run status {status >> 24}")
        code = RunStatusCode(status >> 24)
        return cls(
            run,
            start,
            code,
            status & 0xFFFFFF,
            bool(pause >> 24),
            pause & 0xFFFFFF,
            bool(addendum >> 24),
            addendum & 0xFFFFFF,
            packet.version,
        )

    @property
    def mode_index(self) -> int:
        """Counts the pauses and resumptions of a run."""
        return self.file_word >> 12

    @property
    def file_index(self) -> int:
        """Counts the files of one mode index."""
        return self.file_word & 0xFFF

    def to_bytes(self) -> bytes:
        """The payload."""
        start = words(self.run_number, self.run_start, (self.status << 24) | self.file_word)
        if self.version == 0:
            return start
        return start + words((self.paused << 24) | self.pause_file, (self.addendum << 24) | self.addendum_file)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """RUN_INFO: the run's XML description."""

    xml: str

    @classmethod
    def read(cls, packet: Packet) -> RunInfo:
        """Decode the text; it is parsed only where it is asked."""
        return cls(_counted_text(Cursor(packet)))

    def to_bytes(self) -> bytes:
        """The payload."""
        return _text_payload(self.xml)

    def text(self, tag: str) -> str | None:
        """The text of a top-level element, the last of several; None where there is none. Raises ValueError for bad XML."""
        found = last_child_text(parse_xml(self.xml), tag)
        return None if found is None else found.strip()


@dataclass(frozen=True, slots=True)
class Geometry:
    """GEOMETRY: the instrument definition (XML)."""

    xml: str

    @classmethod
    def read(cls, packet: Packet) -> Geometry:
        """Decode the text."""
        return cls(_counted_text(Cursor(packet)))

    def to_bytes(self) -> bytes:
        """The payload."""
        return _text_payload(self.xml)


@dataclass(frozen=True, slots=True)
class TranslationComplete:
    """TRANSLATION_COMPLETE: 0 success, 0x0001-0x7FFF transient failure, from 0x8000 on permanent failure.

    Never use the time stamp of this packet: the reference stamps it wrongly.
    """

    status: int
    reason: str = ""

    @classmethod
    def read(cls, packet: Packet) -> TranslationComplete:
        """Decode."""
        cursor = Cursor(packet)
        head = cursor.word("the status")
        return cls(head >> 16, cursor.text(head & 0xFFFF, "the reason"))

    def to_bytes(self) -> bytes:
        """The payload; a reason longer than 65535 bytes is cut."""
        reason = text_bytes(self.reason)[:0xFFFF]
        return words((self.status << 16) | len(reason)) + padded(reason)


@dataclass(frozen=True, slots=True)
class ClientHello:
    """CLIENT_HELLO: from when on (EPICS seconds; 0 only live, 1 the whole run), and whether paused data is wanted."""

    start: int
    flags: int | None = 0

    @classmethod
    def read(cls, packet: Packet) -> ClientHello:
        """Decode; version 0 has no flags."""
        cursor = Cursor(packet)
        start = cursor.word("the start")
        return cls(start, cursor.word("the flags") if packet.version else None)

    @property
    def version(self) -> int:
        """The packet version in which this is written."""
        return 0 if self.flags is None else 1

    def to_bytes(self) -> bytes:
        """The payload."""
        return words(self.start) if self.flags is None else words(self.start, self.flags)


@dataclass(frozen=True, slots=True)
class Annotation:
    """STREAM_ANNOTATION: a marker with a comment."""

    marker: MarkerType
    scan_index: int
    comment: str = ""
    reset_hint: bool = False

    @classmethod
    def read(cls, packet: Packet) -> Annotation:
        """Decode."""
        cursor = Cursor(packet)
        head, scan = cursor.words(2, "the marker")
        marker = (head >> 16) & 0x7FFF
        if marker not in MarkerType._value2member_map_:
            raise cursor.fail(f"there is no marker type {marker}")
        return cls(MarkerType(marker), scan, cursor.text(head & 0xFFFF, "the comment"), bool(head >> 31))

    def to_bytes(self) -> bytes:
        """The payload; a comment longer than 65535 bytes is cut."""
        comment = text_bytes(self.comment)[:0xFFFF]
        return words((self.reset_hint << 31) | (self.marker << 16) | len(comment), self.scan_index) + padded(comment)


@dataclass(frozen=True, slots=True)
class Sync:
    """SYNC: stands at the beginning of every file of a stream, and every 16 MB."""

    file_offset: int
    comment: str = ""

    @classmethod
    def read(cls, packet: Packet) -> Sync:
        """Decode; the signature has to be right."""
        cursor = Cursor(packet)
        if bytes(cursor.take(16, "the signature")) != SYNC_SIGNATURE:
            raise cursor.fail("the signature is not SNSADARAORNL")
        low, high, length = cursor.words(3, "the offset")
        return cls(low | (high << 32), cursor.text(length, "the comment"))

    def to_bytes(self) -> bytes:
        """The payload."""
        comment = text_bytes(self.comment)
        return SYNC_SIGNATURE + struct.pack("<QI", self.file_offset, len(comment)) + padded(comment)


@dataclass(frozen=True, slots=True)
class Empty:
    """HEARTBEAT and DATA_DONE: packets without a payload."""

    data_done: bool

    def to_bytes(self) -> bytes:
        """The payload."""
        return b""


@dataclass(frozen=True, slots=True)
class BeamlineInfo:
    """BEAMLINE_INFO: the beamline's id (BL14B), short (HYS) and long name."""

    beamline_id: str
    short_name: str
    long_name: str
    target_station: int = 1
    version: int = 1

    @classmethod
    def read(cls, packet: Packet) -> BeamlineInfo:
        """Decode; target station 0 (and version 0) means 1."""
        cursor = Cursor(packet)
        head = cursor.word("the lengths")
        lengths = ((head >> 16) & 0xFF, (head >> 8) & 0xFF, head & 0xFF)
        text = bytes(cursor.take(sum(lengths), "the names"))
        first, second = lengths[0], lengths[0] + lengths[1]
        beamline, short, long = (
            part.decode(errors="surrogateescape") for part in (text[:first], text[first:second], text[second:])
        )
        return cls(beamline, short, long, target_station=(head >> 24) or 1, version=packet.version)

    def to_bytes(self) -> bytes:
        """The payload."""
        names = [text_bytes(name) for name in (self.beamline_id, self.short_name, self.long_name)]
        target = self.target_station if self.version else 0
        lengths = (target << 24) | (len(names[0]) << 16) | (len(names[1]) << 8) | len(names[2])
        return words(lengths) + padded(b"".join(names))


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """One beam monitor: histogram bounds and bin in µs, distance in m; format 1 events, 2 histogram."""

    monitor_id: int
    tof_offset_us: int
    tof_max_us: int
    tof_bin_us: int
    distance_m: float
    format: int = 2


@dataclass(frozen=True, slots=True)
class BeamMonitorConfig:
    """BEAM_MONITOR_CONFIG."""

    monitors: tuple[MonitorConfig, ...]
    version: int = 1

    @classmethod
    def read(cls, packet: Packet) -> BeamMonitorConfig:
        """Decode; version 0 has no formats and means histograms."""
        cursor = Cursor(packet)
        count = cursor.word("the count")
        if count * 24 > cursor.left:
            raise cursor.fail(f"{count} monitors cannot stand in {cursor.left} bytes")
        monitors = []
        for _ in range(count):
            monitor, offset, last, width = cursor.words(4, "a monitor")
            monitors.append(MonitorConfig(monitor, offset, last, width, cursor.double("its distance")))
        formats = cursor.words(count, "the formats") if packet.version else (2,) * count
        return cls(tuple(replace(m, format=f) for m, f in zip(monitors, formats, strict=True)), packet.version)

    def to_bytes(self) -> bytes:
        """The payload."""
        rows = [
            struct.pack("<IIIId", m.monitor_id, m.tof_offset_us, m.tof_max_us, m.tof_bin_us, m.distance_m)
            for m in self.monitors
        ]
        formats = words(*(m.format for m in self.monitors)) if self.version else b""
        return words(len(rows)) + b"".join(rows) + formats


@dataclass(frozen=True, slots=True)
class BankSet:
    """One detector bank set: flags 1 events, 2 histogram; bounds and bin in µs, throttle in Hz."""

    name: str
    flags: int
    banks: tuple[int, ...]
    tof_offset_us: int
    tof_max_us: int
    tof_bin_us: int
    throttle_hz: float
    suffix: str


@dataclass(frozen=True, slots=True)
class DetectorBankSets:
    """DETECTOR_BANK_SETS."""

    sets: tuple[BankSet, ...]

    @classmethod
    def read(cls, packet: Packet) -> DetectorBankSets:
        """Decode."""
        cursor = Cursor(packet)
        count = cursor.word("the count")
        if count * 60 > cursor.left:
            raise cursor.fail(f"{count} bank sets cannot stand in {cursor.left} bytes")
        return cls(tuple(_read_bank_set(cursor) for _ in range(count)))

    def to_bytes(self) -> bytes:
        """The payload."""
        parts = [words(len(self.sets))]
        for one in self.sets:
            parts.append(struct.pack("<16sII", text_bytes(one.name), one.flags, len(one.banks)) + words(*one.banks))
            bounds = (one.tof_offset_us, one.tof_max_us, one.tof_bin_us, one.throttle_hz, text_bytes(one.suffix))
            parts.append(struct.pack("<IIId16s", *bounds))
        return b"".join(parts)


def _read_bank_set(cursor: Cursor) -> BankSet:
    name = _fixed_text(cursor.take(16, "a bank set's name"))
    flags, count = cursor.words(2, "a bank set")
    banks = cursor.words(count, "its banks") if count * 4 <= cursor.left else _too_many(cursor, count)
    offset, last, width = cursor.words(3, "its bounds")
    throttle = cursor.double("its throttle")
    return BankSet(name, flags, banks, offset, last, width, throttle, _fixed_text(cursor.take(16, "its suffix")))


def _too_many(cursor: Cursor, count: int) -> tuple[int, ...]:
    raise cursor.fail(f"{count} banks cannot stand in {cursor.left} bytes")


@dataclass(frozen=True, slots=True)
class MapSection:
    """One section of a pixel map, as on the wire: ``head`` are its first two words, ``values`` what follows, shape (n,)."""

    head: tuple[int, int]
    values: U32Array


@dataclass(frozen=True, slots=True)
class PixelMapping:
    """PIXEL_MAPPING (by base logical id) or PIXEL_MAPPING_ALT (by base physical id, ``alternative``)."""

    sections: tuple[MapSection, ...]
    alternative: bool
    version: int = 1
    #: PIXEL_MAPPING_ALT only.
    bank_count: int = 0

    @classmethod
    def read(cls, packet: Packet, *, alternative: bool) -> PixelMapping:
        """Decode the sections; :mod:`neutronflow.domain.adara.pixelmap` makes arrays of them."""
        cursor = Cursor(packet)
        banks = cursor.word("the number of banks") if alternative else 0
        sections = []
        while cursor.left:
            base, head = cursor.words(2, "a section")
            shorthand = alternative and packet.version > 0 and head & 0x8000
            count = 4 if shorthand else head & (0x7FFF if alternative and packet.version > 0 else 0xFFFF)
            sections.append(MapSection((base, head), cursor.u32s(count, f"the section of bank {head >> 16}")))
        return cls(tuple(sections), alternative, packet.version, banks)

    def to_bytes(self) -> bytes:
        """The payload."""
        parts = [words(self.bank_count)] if self.alternative else []
        for section in self.sections:
            parts.append(words(*section.head) + section.values.astype("<u4").tobytes())
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class SourceList:
    """SOURCE_LIST: ids of event sources; may be empty (the greeting of a slow-control source)."""

    sources: tuple[int, ...]

    @classmethod
    def read(cls, packet: Packet) -> SourceList:
        """Decode."""
        cursor = Cursor(packet)
        return cls(cursor.words(cursor.left // 4, "the sources"))

    def to_bytes(self) -> bytes:
        """The payload."""
        return words(*self.sources)


def _counted_text(cursor: Cursor) -> str:
    return cursor.text(cursor.word("the length"), "the text")


def _text_payload(text: str) -> bytes:
    data = text_bytes(text)
    return words(len(data)) + padded(data)


def _fixed_text(data: memoryview) -> str:
    return bytes(data).split(b"\0", 1)[0].decode(errors="surrogateescape")
