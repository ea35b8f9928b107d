"""Every packet type: :func:`decode` makes a struct of a packet, :func:`encode` bytes of a struct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from neutronflow.domain.adara.devices import DeviceDescriptor, MultiVariableValue, VariableValue
from neutronflow.domain.adara.eventpackets import (
    Bank,
    BankedEvents,
    MonitorEvents,
    MonitorSection,
    PulseHeader,
    PulseTiming,
    RawEvents,
    Rtdl,
    SourceSection,
)
from neutronflow.domain.adara.runpackets import (
    Annotation,
    BankSet,
    BeamlineInfo,
    BeamMonitorConfig,
    ClientHello,
    DetectorBankSets,
    Empty,
    Geometry,
    MapSection,
    MarkerType,
    MonitorConfig,
    PixelMapping,
    RunInfo,
    RunStatus,
    RunStatusCode,
    SourceList,
    Sync,
    TranslationComplete,
)
from neutronflow.domain.adara.wire import Packet, PacketType, encode_packet

__all__ = [
    "Annotation",
    "AnyPacket",
    "Bank",
    "BankSet",
    "BankedEvents",
    "BeamMonitorConfig",
    "BeamlineInfo",
    "ClientHello",
    "DetectorBankSets",
    "DeviceDescriptor",
    "Empty",
    "Geometry",
    "MapSection",
    "MarkerType",
    "MonitorConfig",
    "MonitorEvents",
    "MonitorSection",
    "MultiVariableValue",
    "PixelMapping",
    "PulseHeader",
    "PulseTiming",
    "RawEvents",
    "Rtdl",
    "RunInfo",
    "RunStatus",
    "RunStatusCode",
    "SourceList",
    "SourceSection",
    "Sync",
    "TranslationComplete",
    "Unknown",
    "VariableValue",
    "decode",
    "encode",
]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet of a type that is not known here, kept as it came."""

    base: int
    version: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """The payload."""
        return self.payload


AnyPacket: TypeAlias = (
    RawEvents
    | Rtdl
    | SourceList
    | BankedEvents
    | MonitorEvents
    | PixelMapping
    | RunStatus
    | RunInfo
    | TranslationComplete
    | ClientHello
    | Annotation
    | Sync
    | Empty
    | Geometry
    | BeamlineInfo
    | BeamMonitorConfig
    | DetectorBankSets
    | DeviceDescriptor
    | VariableValue
    | MultiVariableValue
    | Unknown
)

_T = PacketType
_READERS: dict[int, Callable[[Packet], AnyPacket]] = {
    _T.RAW_EVENT: partial(RawEvents.read, mapped=False),
    _T.MAPPED_EVENT: partial(RawEvents.read, mapped=True),
    _T.RTDL: Rtdl.read,
    _T.SOURCE_LIST: SourceList.read,
    _T.BANKED_EVENT: partial(BankedEvents.read, with_state=False),
    _T.BANKED_EVENT_STATE: partial(BankedEvents.read, with_state=True),
    _T.BEAM_MONITOR_EVENT: MonitorEvents.read,
    _T.PIXEL_MAPPING: partial(PixelMapping.read, alternative=False),
    _T.PIXEL_MAPPING_ALT: partial(PixelMapping.read, alternative=True),
    _T.RUN_STATUS: RunStatus.read,
    _T.RUN_INFO: RunInfo.read,
    _T.TRANSLATION_COMPLETE: TranslationComplete.read,
    _T.CLIENT_HELLO: ClientHello.read,
    _T.STREAM_ANNOTATION: Annotation.read,
    _T.SYNC: Sync.read,
    _T.HEARTBEAT: lambda _packet: Empty(data_done=False),
    _T.DATA_DONE: lambda _packet: Empty(data_done=True),
    _T.GEOMETRY: Geometry.read,
    _T.BEAMLINE_INFO: BeamlineInfo.read,
    _T.BEAM_MONITOR_CONFIG: BeamMonitorConfig.read,
    _T.DETECTOR_BANK_SETS: DetectorBankSets.read,
    _T.DEVICE_DESCRIPTOR: DeviceDescriptor.read,
    **dict.fromkeys(range(_T.VARIABLE_U32, _T.VARIABLE_DOUBLE_ARRAY + 1), VariableValue.read),
    **dict.fromkeys(range(_T.MULTI_VARIABLE_U32, _T.MULTI_VARIABLE_DOUBLE_ARRAY + 1), MultiVariableValue.read),
}

#: Types whose layout does not depend on the version of the struct at hand.
_PLAIN: dict[type, int] = {
    RunInfo: _T.RUN_INFO,
    Geometry: _T.GEOMETRY,
    TranslationComplete: _T.TRANSLATION_COMPLETE,
    Annotation: _T.STREAM_ANNOTATION,
    Sync: _T.SYNC,
    SourceList: _T.SOURCE_LIST,
    DetectorBankSets: _T.DETECTOR_BANK_SETS,
    DeviceDescriptor: _T.DEVICE_DESCRIPTOR,
}
_VERSIONED: dict[type, int] = {
    RunStatus: _T.RUN_STATUS,
    ClientHello: _T.CLIENT_HELLO,
    BeamlineInfo: _T.BEAMLINE_INFO,
    BeamMonitorConfig: _T.BEAM_MONITOR_CONFIG,
}


def decode(packet: Packet) -> AnyPacket:
    """The struct of a packet; arrays in it are views of the packet's payload. Raises :class:`~.wire.BadPacket`."""
    reader = _READERS.get(packet.base)
    return reader(packet) if reader else Unknown(packet.base, packet.version, bytes(packet.payload))


def encode(struct: AnyPacket, seconds: int, nanoseconds: int) -> bytes:
    """A packet with this content and time stamp (EPICS seconds)."""
    base, version = _format(struct)
    return encode_packet(base, version, seconds, nanoseconds, struct.to_bytes())


def _format(struct: AnyPacket) -> tuple[int, int]:  # noqa: PLR0911 - one line a shape
    match struct:
        case BankedEvents(with_state=True):
            return _T.BANKED_EVENT_STATE, 0
        case BankedEvents():
            return _T.BANKED_EVENT, struct.pulse.version
        case MonitorEvents():
            return _T.BEAM_MONITOR_EVENT, struct.pulse.version
        case RawEvents():
            return _T.MAPPED_EVENT if struct.mapped else _T.RAW_EVENT, struct.timing.version
        case Rtdl():
            return _T.RTDL, struct.timing.version
        case PixelMapping():
            return _T.PIXEL_MAPPING_ALT if struct.alternative else _T.PIXEL_MAPPING, struct.version
        case Empty():
            return _T.DATA_DONE if struct.data_done else _T.HEARTBEAT, 0
        case VariableValue() | MultiVariableValue():
            return struct.base, 0
        case RunStatus() | ClientHello() | BeamlineInfo() | BeamMonitorConfig():
            return _VERSIONED[type(struct)], struct.version
        case Unknown():
            return struct.base, struct.version
    return _PLAIN[type(struct)], 0
