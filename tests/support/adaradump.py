"""Prints packets as the C++ parser of the reference does, so that its recorded output can be compared line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neutronflow.domain.adara import packets as p
from neutronflow.domain.adara.wire import Packet, PacketType

_HEADER = re.compile(r"\d+\.\d{9} [A-Z][A-Za-z0-9 ]+ \(0x[0-9a-f]+,v\d+\) \[\d+ bytes\]$")
_NAMES = {
    PacketType.SYNC: "SYNC",
    PacketType.RUN_STATUS: "RUN STATUS",
    PacketType.DEVICE_DESCRIPTOR: "DEVICE DESCRIPTOR",
    PacketType.VARIABLE_U32: "U32 VARIABLE",
    PacketType.VARIABLE_DOUBLE: "DOUBLE VARIABLE",
    PacketType.VARIABLE_STRING: "String VARIABLE",
    PacketType.VARIABLE_U32_ARRAY: "U32 ARRAY VARIABLE",
    PacketType.VARIABLE_DOUBLE_ARRAY: "DOUBLE ARRAY VARIABLE",
    PacketType.STREAM_ANNOTATION: "STREAM ANNOTATION",
    PacketType.BEAMLINE_INFO: "BEAMLINE INFO",
    PacketType.RUN_INFO: "RUN INFO",
    PacketType.GEOMETRY: "GEOMETRY",
    PacketType.PIXEL_MAPPING_ALT: "PIXEL MAP TABLE ALT",
    PacketType.BEAM_MONITOR_CONFIG: "BEAM MONITOR CONFIG",
    PacketType.RTDL: "RTDL",
    PacketType.BEAM_MONITOR_EVENT: "BEAM MONITOR DATA",
    PacketType.BANKED_EVENT: "BANKED EVENT DATA",
    PacketType.DATA_DONE: "DATA DONE",
    PacketType.HEARTBEAT: "HEARTBEAT",
    PacketType.SOURCE_LIST: "SOURCE LIST",
}
_STATUS = (
    "No run",
    "New run",
    "End of file (run continues)",
    "Beginning of file (continuing run)",
    "End of run",
    "State",
    "Prologue",
)
_MARKERS = ("Generic", "Scan Start", "Scan Stop", "Pause", "Resume", "Overall Comment", "System")
_STATES = {0: "OK", 3: "HiHi", 4: "High", 17: "Undef"}
_SEVERITIES = {0: "OK", 1: "Minor", 2: "Major", 3: "Invalid"}
_FLAVOURS = ("No Beam", "Target Station 1 Normal")
_FLAGS = {0x40: "PCHG_UNCOR", 0x80: "VETO_UNCOR", 0x100: "GOT_METADATA", 0x200: "GOT_NEUTRONS"}


def dump(packet: Packet) -> Iterator[str]:
    """The lines that the reference prints of one packet."""
    size = 16 + len(packet.payload)
    name = _NAMES[PacketType(packet.base)]
    stamp = f"{packet.seconds}.{packet.nanoseconds:09d}"
    yield f"{stamp} {name} (0x{packet.base:x},v{packet.version}) [{size} bytes]"
    yield from _content(p.decode(packet))


def _content(packet: p.AnyPacket) -> Iterator[str]:  # noqa: PLR0912 - one case a packet type
    match packet:
        case p.Sync():
            yield f"    Signature [SNSADARAORNL], File Offset {packet.file_offset}, Comment [{packet.comment}]"
        case p.RunStatus():
            yield f"    {_STATUS[packet.status]}"
            yield f"    Run {packet.run_number} started at epoch {packet.run_start}"
            yield f"    Mode Index {packet.mode_index}, File Index {packet.file_index}"
            yield (
                f"    Pause Index {packet.pause_file} (paused={int(packet.paused)}), "
                f"Addendum Index {packet.addendum_file} (addendum={int(packet.addendum)})"
            )
        case p.DeviceDescriptor():
            yield f"    Device {packet.device_id}"
            yield from packet.xml.split("\n")
        case p.VariableValue():
            yield f"    Device {packet.device_id} Variable {packet.variable_id}"
            yield f"    Status {_STATES[packet.status]} Severity {_SEVERITIES[packet.severity]}"
            yield f"    {_value(packet)}"
        case p.Annotation():
            yield from _annotation(packet)
        case p.BeamlineInfo():
            yield (
                f"    target_station '{packet.target_station}' id '{packet.beamline_id}' "
                f"short '{packet.short_name}' long '{packet.long_name}'"
            )
        case p.RunInfo() | p.Geometry():
            yield from packet.xml.split("\n")
        case p.PixelMapping():
            yield from _pixel_map(packet)
        case p.BeamMonitorConfig():
            yield f"    num {len(packet.monitors)}"
            for one in packet.monitors:
                yield (
                    f"    id {one.monitor_id} tofOffset {one.tof_offset_us} tofMax {one.tof_max_us} "
                    f"tofBin {one.tof_bin_us} distance {one.distance_m:f}"
                )
        case p.Rtdl():
            yield from _rtdl(packet)
        case p.MonitorEvents():
            yield from _pulse(packet.pulse)
            for monitor in packet.monitors:
                yield f"    Monitor {monitor.monitor_id} source {monitor.source_id:08x} {_offset(monitor)}"
                for i, event in enumerate(monitor.events.tolist()):
                    yield f"\t  {i}: {_seconds(event & 0x1FFFFF)} seconds cycle {event >> 21 & 0x3FF}"
        case p.BankedEvents():
            yield from _pulse(packet.pulse)
            for source in packet.sources:
                yield (
                    f"    Source {source.source_id:08x} nBanks {len(source.banks)} "
                    f"intrapulse {source.intra_pulse_100ns * 100}ns {_offset(source)}"
                )
                for bank in source.banks:
                    yield f"\tBank 0x{bank.bank_id:x} ({len(bank.tof)} events)"
                    for i, (tof, pixel) in enumerate(zip(bank.tof.tolist(), bank.pixel.tolist(), strict=True)):
                        yield f"\t  {i}: {tof:08x} {pixel:08x}    ({_seconds(tof)} seconds)"


def _offset(section: p.MonitorSection | p.SourceSection) -> str:
    return f"tofOffset {section.tof_offset_100ns * 100}ns"


def _seconds(tof_100ns: int) -> str:
    return f"{tof_100ns // 10_000_000}.{tof_100ns % 10_000_000:07d}"


def _pulse(pulse: p.PulseHeader) -> Iterator[str]:
    yield (
        f"    cycle {pulse.cycle} charge {pulse.charge_10pc * 10}pC energy {pulse.energy_ev}eV "
        f"vetoFlags 0x{pulse.veto or 0:x}"
    )
    yield "    flags" + "".join(f" {name}" for bit, name in _FLAGS.items() if pulse.flags & bit)


def _value(packet: p.VariableValue) -> str:
    match packet.kind:
        case "u32":
            return f"Value {packet.value}"
        case "double":
            return f"Value {packet.value:f}"
        case "string":
            return f"Value '{packet.value}'"
        case "u32 array":
            return f"Count {len(packet.value)} Values " + " ".join(str(one) for one in packet.value)  # type: ignore[arg-type, union-attr]
    return f"Count {len(packet.value)} Values " + " ".join(f"{one:f}" for one in packet.value)  # type: ignore[arg-type, union-attr]


def _annotation(packet: p.Annotation) -> Iterator[str]:
    yield f"    Type {int(packet.marker)} ({_MARKERS[packet.marker]}{', Reset Hint' if packet.reset_hint else ''})"
    if packet.scan_index:
        yield f"    Scan Index {packet.scan_index}"
    yield f"    Comment '{packet.comment}'"


def _pixel_map(packet: p.PixelMapping) -> Iterator[str]:
    yield f"    numBanks {packet.bank_count}"
    for section in packet.sections:
        start, head = section.head
        yield (
            f"    0x{head:08x}: phys_start={start}/0x{start:x} bank={head >> 16} "
            f"shorthand={head >> 15 & 1} pix_count={head & 0x7FFF}"
        )
        stop, logical, steps, logical_stop = (int(value) for value in section.values)
        yield (
            f"        Shorthand Section physical={start}/{stop}/{_signed(steps >> 16)} "
            f"logical={logical}/{logical_stop}/{_signed(steps & 0xFFFF)}"
        )
    total = sum(section.head[1] & 0x7FFF for section in packet.sections)
    yield f"    Done with Packet, PixelIds Tot={total} Skip=0, Sections Used={len(packet.sections)} Skip=0"


def _signed(half: int) -> int:
    return half - 0x10000 if half & 0x8000 else half


def _rtdl(packet: p.Rtdl) -> Iterator[str]:
    timing = packet.timing
    yield f"    cycle {timing.cycle} vetoFlags 0x{timing.veto:x} timing 0x{timing.timing_status:x}"
    yield f"    dataFlags=true 0x{timing.data_flags:x} (GOT_NEUTRONS GOT_METADATA)"
    yield f"    flavor {timing.flavour} ({_FLAVOURS[timing.flavour]})"
    yield f"    intrapulse {timing.intra_pulse_100ns * 100}ns tofOffset {timing.tof_offset_100ns * 100}ns"
    yield f"    charge {timing.charge_10pc * 10}pC ringPeriod {packet.ring_period_ps}ps"
    for i, frame in enumerate(packet.frames):
        yield f"    FNA{i} {frame >> 24} FrameData {frame & 0xFFFFFF}"


def blocks(lines: list[str]) -> list[list[str]]:
    """A dump cut into its packets; blank lines at the end of one are left out."""
    found: list[list[str]] = []
    for line in lines:
        if _HEADER.match(line):
            found.append([])
        if found:
            found[-1].append(line)
    return [_stripped(block) for block in found]


def _stripped(block: list[str]) -> list[str]:
    while block and not block[-1].strip():
        block = block[:-1]
    return block
