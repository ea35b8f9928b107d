"""After a restart: what the spool says of runs, and of the one that was being taken."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from neutronflow.domain.adara.packets import Annotation, RunInfo, RunStatus, RunStatusCode, decode
from neutronflow.domain.adara.wire import BadPacket, Packet, PacketType, check_header
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.stream.spool import Container
from neutronflow.instrument.stream.state import StreamState

log = get_logger(__name__)

_HEADER = struct.Struct("<IIII")
_HEADER_BYTES: Final = 16
_PULSES: Final = (PacketType.RTDL, PacketType.BEAM_MONITOR_EVENT, PacketType.BANKED_EVENT)


@dataclass(slots=True)
class Told:
    """What the files of a run say of it. ``start`` in EPICS seconds; ``last_pulse`` in Unix seconds."""

    start: int = 0
    experiment: str = ""
    run_info: bytes = b""
    ended: bool = False
    last_pulse: float = 0.0
    annotations: list[tuple[Annotation, bytes]] = field(default_factory=list)


def describe(container: Container) -> Told:
    """What the beginning of a run's first file says: start and experiment."""
    told = Told()
    for packet in _packets(container.files[0].path):
        _note(told, packet)
        if told.experiment or packet.base in _PULSES:
            break
    return told


def recover(container: Container, state: StreamState) -> Told:
    """Read the last file of a container; an unfinished packet at its end is cut off. Devices and values go into ``state``."""
    told = describe(container)
    file = container.files[-1]
    end = 0
    for packet in _packets(file.path):
        end = packet.offset + _HEADER_BYTES + len(packet.payload)
        _note(told, packet)
        if packet.base >= PacketType.DEVICE_DESCRIPTOR:
            state.recover(packet)
    if end < file.size:
        log.warning("spool_file_cut", file=file.path.name, bytes=file.size - end)
        os.truncate(file.path, end)
        file.size = end
    if not told.last_pulse:
        told.last_pulse = file.path.stat().st_mtime
    return told


def _note(told: Told, packet: Packet) -> None:
    if packet.base in _PULSES:
        told.last_pulse = packet.time_ns / 1e9
        return
    if packet.base not in (PacketType.RUN_STATUS, PacketType.RUN_INFO, PacketType.STREAM_ANNOTATION):
        return
    raw = _HEADER.pack(len(packet.payload), (packet.base << 8) | packet.version, packet.seconds, packet.nanoseconds)
    raw += bytes(packet.payload)
    with contextlib.suppress(BadPacket, ValueError):
        content = decode(packet)
        if isinstance(content, RunStatus):
            told.start = content.run_start or told.start
            told.ended = content.status is RunStatusCode.END_RUN
        elif isinstance(content, RunInfo):
            told.run_info = raw
            told.experiment = content.text("proposal_id") or ""
        elif isinstance(content, Annotation):
            told.annotations.append((content, raw))


def _packets(path: Path) -> Iterator[Packet]:
    """The whole packets of a file, up to the first that is none."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 0
        while at + _HEADER_BYTES <= len(data):
            length, form, seconds, nanoseconds = _HEADER.unpack_from(data, at)
            try:
                check_header(length, nanoseconds, at)
            except BadPacket as error:
                log.error("spool_file_damaged", file=path.name, detail=str(error))
                return
            end = at + _HEADER_BYTES + length
            if end > len(data):
                return
            payload = memoryview(data[at + _HEADER_BYTES : end])
            yield Packet(form >> 8, form & 0xFF, seconds, nanoseconds, payload, at)
            at = end
