"""Recorded streams, and the same with other names in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neutronflow.domain.adara.packets import BeamlineInfo, RunInfo, RunStatus, decode, encode
from neutronflow.domain.adara.wire import Packet, PacketReader, encode_packet

RECORDED = Path(__file__).parents[1] / "data" / "adara" / "small_sms_run1001.adara"


def packets(data: bytes) -> list[Packet]:
    return list(PacketReader().feed(data))


def renamed(*, facility: str, instrument: str, experiment: str, run_number: int) -> bytes:
    """The recorded stream as if another instrument of another facility had taken it."""
    parts: list[bytes] = []
    for packet in packets(RECORDED.read_bytes()):
        found = decode(packet)
        if isinstance(found, RunInfo):
            names = {
                "<facility_name>SNS<": f"<facility_name>{facility}<",
                "IPTS-12345": experiment,
                "<run_number>1001<": f"<run_number>{run_number}<",
            }
            xml = found.xml
            for old, new in names.items():
                xml = xml.replace(old, new)
            found = RunInfo(xml)
        elif isinstance(found, BeamlineInfo):
            found = replace(found, short_name=instrument, long_name=f"Test instrument {instrument}")
        elif isinstance(found, RunStatus) and found.run_number:
            found = replace(found, run_number=run_number)
        else:
            parts.append(encode_packet(packet.base, packet.version, packet.seconds, packet.nanoseconds, packet.payload))
            continue
        parts.append(encode(found, packet.seconds, packet.nanoseconds))
    return b"".join(parts)
