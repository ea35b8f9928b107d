"""Recorded streams, and the same with other names in them."""

from __future__ import annotations

import re
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
            found = _with(found, xml=_renamed_xml(found.xml, facility, experiment, run_number))
        elif isinstance(found, BeamlineInfo):
            found = _with(found, short_name=instrument, long_name=f"Test instrument {instrument}")
        elif isinstance(found, RunStatus) and found.run_number:
            found = _with(found, run_number=run_number)
        else:
            parts.append(encode_packet(packet.base, packet.version, packet.seconds, packet.nanoseconds, packet.payload))
            continue
        parts.append(encode(found, packet.seconds, packet.nanoseconds))
    return b"".join(parts)
