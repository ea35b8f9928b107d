"""What the stream says of the run and the instrument, and what has changed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neutronflow.domain.adara.packets import (
    Annotation,
    BankedEvents,
    BeamlineInfo,
    DeviceDescriptor,
    MarkerType,
    MonitorEvents,
    MultiVariableValue,
    RunInfo,
    RunStatus,
    RunStatusCode,
    VariableValue,
    decode,
)
from neutronflow.domain.adara.wire import BadPacket, Packet, PacketType
from neutronflow.domain.adara.xml import child_text, last_child_text, parse_xml
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.messages.combus import SIMULATED, Fields, MessageType
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.dasmon.metrics import Metrics
from neutronflow.instrument.dasmon.settings import DasmonSettings
from neutronflow.instrument.dasmon.variables import Variables

log = get_logger(__name__)

_LONGEST: Final = 1000
#: Nothing in these is for DASMON; they are large, so they are not even decoded.
_NOT_READ: Final = (PacketType.GEOMETRY, PacketType.PIXEL_MAPPING, PacketType.PIXEL_MAPPING_ALT, PacketType.RTDL)
_RUN_INFO: Final = {
    "proposal_id": "proposal_id",
    "run_title": "run_title",
    "run_number": "run_num",
}
_SAMPLE: Final = {
    "id": "sample_id",
    "name": "sample_name",
    "environment": "sample_environment",
    "chemical_formula": "sample_formula",
    "nature": "sample_nature",
}


class Observer:
    """Follows the stream. ``told`` holds what is to be told of the state, by message type; ``news`` which of it is new."""

    def __init__(self, settings: DasmonSettings, beamline: BeamlineSettings, host: str, port: int) -> None:
        self._beamline = beamline
        self._where = {"host": host, "port": str(port)}
        self.metrics = Metrics(settings.window_pulses, settings.max_tof_us)
        self.variables = Variables()
        self.told: dict[MessageType, Fields] = {}
        self.news: set[MessageType] = set()
        self._run = 0
        self._recording = False
        self._is_connected(connected=False)
        self._beam_info(BeamlineInfo(beamline.beamline_id, beamline.short_name, beamline.long_name))

    def connected(self) -> None:
        """The stream begins anew: what the run has counted so far comes once more."""
        self.variables.forget()
        self.metrics.begin_run()
        self._run, self._recording = 0, False
        self._is_connected(connected=True)

    def lost(self, reason: str) -> None:
        """Nothing is known any more."""
        del reason
        self._is_connected(connected=False)

    def packets(self, packets: Sequence[Packet], size: int) -> None:
        """Take packets; what cannot be understood is counted, and the rest goes on."""
        self.metrics.received(size)
        for packet in packets:
            if packet.base in _NOT_READ:
                continue
            try:
                self._take(packet)
            except (BadPacket, ValueError) as error:
                kinds = {PacketType.DEVICE_DESCRIPTOR: "ddp_xml", PacketType.RUN_INFO: "runinfo_xml"}
                self.metrics.bad_packet(kinds.get(PacketType(packet.base), "inv_pkt"))
                log.warning("bad_packet", type=f"{packet.base:#06x}", detail=str(error)[:300])

    def _take(self, packet: Packet) -> None:
        content = decode(packet)
        match content:
            case BankedEvents():
                self.metrics.banked(packet, content, counting=self._recording)
            case MonitorEvents():
                self.metrics.monitors(packet, content)
            case VariableValue() | MultiVariableValue():
                self.variables.take(packet.time_ns, content)
            case DeviceDescriptor():
                self.variables.define(content)
            case RunStatus():
                self._run_status(packet, content)
            case Annotation():
                self._annotation(content)
            case BeamlineInfo():
                self._beam_info(content)
            case RunInfo():
                self._run_info(content)

    def _run_status(self, packet: Packet, status: RunStatus) -> None:
        recording = status.run_number > 0 and status.status is not RunStatusCode.END_RUN
        if recording and status.run_number != self._run:
            self._run = status.run_number
            self.metrics.begin_run()
            self._tell(MessageType.DASMON_SCAN_STATUS, {"scanning": "false", "scan_index": "0"})
        self._recording = recording
        if not recording:
            self._run = 0
        self._tell(
            MessageType.DASMON_RUN_STATUS,
            {
                "recording": _bool(recording),
                "run_number": str(status.run_number),
                "timestamp": str(packet.time_ns // 1_000_000_000),
                "timestamp_micro": str(packet.time_ns // 1000 % 1_000_000),
            },
            besides=("timestamp", "timestamp_micro"),
        )
        self._tell(MessageType.DASMON_PAUSE_STATUS, {"paused": _bool(status.paused)})

    def _annotation(self, annotation: Annotation) -> None:
        match annotation.marker:
            case MarkerType.PAUSE | MarkerType.RESUME:
                self._tell(MessageType.DASMON_PAUSE_STATUS, {"paused": _bool(annotation.marker is MarkerType.PAUSE)})
            case MarkerType.SCAN_START | MarkerType.SCAN_STOP:
                scanning = annotation.marker is MarkerType.SCAN_START
                fields = {"scanning": _bool(scanning), "scan_index": str(annotation.scan_index if scanning else 0)}
                self._tell(MessageType.DASMON_SCAN_STATUS, fields)

    def _beam_info(self, info: BeamlineInfo) -> None:
        simulated = {SIMULATED: "true"} if self._beamline.simulated else {}
        self._tell(
            MessageType.DASMON_BEAM_INFO,
            {
                "facility": self._beamline.facility,
                "target_station_number": str(info.target_station),
                "beam_id": info.beamline_id,
                "beam_sname": info.short_name,
                "beam_lname": info.long_name,
                **simulated,
            },
        )

    def _run_info(self, info: RunInfo) -> None:
        root = parse_xml(info.xml)
        fields = {name: (last_child_text(root, tag) or "").strip()[:_LONGEST] for tag, name in _RUN_INFO.items()}
        sample = root.find("sample")
        for tag, name in _SAMPLE.items():
            fields[name] = child_text(sample, tag).strip()[:_LONGEST] if sample is not None else ""
        fields["users"] = "; ".join(child_text(user, "name").strip() for user in root.iter("user"))[:_LONGEST]
        self._tell(MessageType.DASMON_RUN_INFO, fields)

    def _is_connected(self, *, connected: bool) -> None:
        self._tell(MessageType.DASMON_CONNECTION, {"connected": _bool(connected), **self._where})

    def _tell(self, message_type: MessageType, fields: Fields, besides: tuple[str, ...] = ()) -> None:
        """Keep it; it is news if it differs from what was kept, ``besides`` these."""
        before = self.told.get(message_type)
        if before is None or any(before.get(name) != value for name, value in fields.items() if name not in besides):
            self.told[message_type] = fields
            self.news.add(message_type)


def _bool(value: bool) -> str:
    return "true" if value else "false"
