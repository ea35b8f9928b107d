"""What a client has to know before it can understand the stream, kept up to date: the prologue."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final

from neutronflow.domain.adara.clock import Stamp, now
from neutronflow.domain.adara.packets import (
    Annotation,
    BeamlineInfo,
    BeamMonitorConfig,
    Geometry,
    MarkerType,
    PixelMapping,
    RunInfo,
    encode,
)
from neutronflow.domain.adara.wire import HEADER_BYTES, Packet, encode_packet

_HEADER = struct.Struct("<IIII")
_TWO = struct.Struct("<II")
_NAME = re.compile(rb"<device_name>\s*(.*?)\s*</device_name>", re.DOTALL)
#: Status 0xFFFE (upstream disconnected) and severity 3 (invalid).
_DISCONNECTED: Final = (0xFFFE << 16) | 3
#: Ids of devices begin here; those from 0x80000000 on are the service's own.
_OWN: Final = 0x80000000
#: A slow-control source with more than this is out of order.
MAX_DEVICES: Final = 10_000
MAX_VARIABLES: Final = 200_000


@dataclass(slots=True)
class Device:
    """A device as the stream has it: its descriptor packet, and the last value packet of each variable."""

    descriptor: bytes = b""
    values: dict[int, bytes] = field(default_factory=dict)
    #: The source it belongs to; None after a restart, until a source describes it again.
    source: str | None = None

    @property
    def name(self) -> bytes:
        """The name in the descriptor."""
        found = _NAME.search(self.descriptor)
        return found[1] if found else b""


class StreamState:
    """The prologue's parts. Values and descriptors are kept as packets, with the time stamps they came with."""

    def __init__(
        self,
        beamline: BeamlineInfo,
        geometry: str,
        pixel_map: PixelMapping,
        monitors: BeamMonitorConfig,
    ) -> None:
        stamp = now()
        self._beamline = encode(beamline, *stamp)
        self._fixed = encode(Geometry(geometry), *stamp) + encode(pixel_map, *stamp)
        if monitors.monitors:
            self._fixed += encode(monitors, *stamp)
        self._devices: dict[int, Device] = {}
        #: (source, its id) -> the id in the stream.
        self._ids: dict[tuple[str, int], int] = {}
        self._variables = 0
        self._run_info = b""
        self._started = b""
        self._run_comment = b""
        self._scan = b""
        self._pause = b""

    def begin_run(self, info: RunInfo, stamp: Stamp, started: bytes) -> None:
        """A run begins: ``started`` is its first annotation."""
        self._run_info, self._started = encode(info, *stamp), started
        self._run_comment = self._scan = self._pause = b""

    def resume_run(self, info: bytes) -> None:
        """A run goes on after a restart: ``info`` is its RUN_INFO packet."""
        self._run_info = info

    def end_run(self) -> None:
        """No run is being taken."""
        self._run_info = self._run_comment = self._scan = self._pause = b""

    def mark(self, annotation: Annotation, packet: bytes) -> None:
        """Keep what a marker says of the state."""
        match annotation.marker:
            case MarkerType.SCAN_START:
                self._scan = packet
            case MarkerType.SCAN_STOP:
                self._scan = b""
            case MarkerType.PAUSE:
                self._pause = packet
            case MarkerType.RESUME:
                self._pause = b""
            case MarkerType.OVERALL_RUN_COMMENT:
                self._run_comment = packet

    def prologue(self, *, beginning: bool = False, joining: bool = False) -> bytes:
        """The prologue. ``beginning``: of a run, with its first annotation. ``joining``: for one who missed the markers."""
        parts: list[bytes] = []
        for device in self._devices.values():
            if device.descriptor:
                parts += [device.descriptor, *device.values.values()]
        if beginning:
            parts.append(self._started)
        if joining:
            parts += [self._run_comment, self._scan, self._pause]
        return b"".join([*parts, self._beamline, self._run_info, self._fixed])

    def knows(self, device: int) -> bool:
        """Whether this device (by its id in the stream) is described."""
        return device in self._devices

    def describe(self, device: int, packet: bytes) -> None:
        """Keep the descriptor of a device of the service's own."""
        self._devices[device] = Device(packet, source="")

    def descriptor(self, source: str, packet: Packet) -> bytes | None:
        """Take a source's DEVICE_DESCRIPTOR: the packet for the stream, or None where it says nothing new.

        Raises ValueError where there are too many devices.
        """
        theirs = int.from_bytes(packet.payload[:4], "little")
        ours = self._ids.get((source, theirs))
        renumbered = _renumber(packet, 0)
        if ours is None:
            ours = self._adopted(renumbered) or self._unused()
            self._ids[source, theirs] = ours
        device = self._devices.setdefault(ours, Device())
        device.source = source
        text = _renumber(packet, ours)
        if text[HEADER_BYTES:] == device.descriptor[HEADER_BYTES:]:
            return None
        device.descriptor = text
        if not any(packet.payload[4:8]):  # undefined
            del self._devices[ours], self._ids[source, theirs]
        return text

    def value(self, source: str, packet: Packet) -> bytes | None:
        """Take a source's value of a variable: the packet for the stream, or None where its device is not described."""
        theirs, variable = _TWO.unpack_from(packet.payload)
        ours = self._ids.get((source, theirs))
        if ours is None or ours not in self._devices:
            return None
        values = self._devices[ours].values
        if variable not in values:
            if self._variables >= MAX_VARIABLES:
                return None
            self._variables += 1
        values[variable] = _renumber(packet, ours)
        return values[variable]

    def disconnected(self, source: str) -> bytes:
        """The last values of all that this source has told, now as values that are not known any more."""
        stamp = now()
        parts = []
        for device in self._devices.values():
            if device.source != source:
                continue
            for variable, packet in device.values.items():
                head = bytearray(packet)
                struct.pack_into("<II", head, 8, *stamp)
                struct.pack_into("<I", head, HEADER_BYTES + 8, _DISCONNECTED)
                device.values[variable] = bytes(head)
                parts.append(device.values[variable])
        return b"".join(parts)

    def recover(self, packet: Packet) -> None:
        """Take a descriptor or value of a stream that this service has written before it was restarted."""
        raw = encode_packet(packet.base, packet.version, packet.seconds, packet.nanoseconds, packet.payload)
        if len(packet.payload) < 8:
            return
        ours, variable = _TWO.unpack_from(packet.payload)
        if packet.base == 0x8000:
            self._devices.setdefault(ours, Device()).descriptor = raw
        elif ours in self._devices and ours < _OWN:
            self._devices[ours].values[variable] = raw

    def _adopted(self, descriptor: bytes) -> int | None:
        """The id of a device of that name which nobody has described since the restart."""
        name = Device(descriptor).name
        for ours, device in self._devices.items():
            if device.source is None and ours < _OWN and device.name == name:
                return ours
        return None

    def _unused(self) -> int:
        if len(self._devices) >= MAX_DEVICES:
            raise ValueError(f"there are more than {MAX_DEVICES} devices")
        taken = {*self._devices, *self._ids.values()}
        return next(number for number in range(1, _OWN) if number not in taken)


def _renumber(packet: Packet, device: int) -> bytes:
    """The packet with another device id."""
    head = _HEADER.pack(len(packet.payload), (packet.base << 8) | packet.version, packet.seconds, packet.nanoseconds)
    return head + device.to_bytes(4, "little") + bytes(packet.payload[4:])
