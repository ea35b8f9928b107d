"""Streams of runs made for a test: the recorded prologue, then whatever pulses and values the test needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from neutronflow.domain.adara.packets import (
    Bank,
    BankedEvents,
    DeviceDescriptor,
    Empty,
    MonitorEvents,
    MonitorSection,
    PulseHeader,
    RunStatus,
    RunStatusCode,
    SourceSection,
    VariableValue,
    encode,
)
from neutronflow.domain.adara.wire import Packet, PacketType, encode_packet
from tests.support.streams import RECORDED, packets

#: EPICS seconds of the first pulse of runs made here.
START_S = 1164241405
RUN_NUMBER = 1001
_EVENTS = (PacketType.BANKED_EVENT, PacketType.BEAM_MONITOR_EVENT, PacketType.RTDL)


def as_bytes(packet: Packet) -> bytes:
    return encode_packet(packet.base, packet.version, packet.seconds, packet.nanoseconds, packet.payload)


@cache
def prologue() -> bytes:
    """All that the recorded run says before its first pulse."""
    parts = []
    for packet in packets(RECORDED.read_bytes()):
        if packet.base in _EVENTS:
            break
        parts.append(as_bytes(packet))
    return b"".join(parts)


def pulse_time(number: int) -> tuple[int, int]:
    """EPICS seconds and nanoseconds of a pulse at 60 Hz; the first one is at 0.6 s."""
    seconds, nanoseconds = divmod(600_000_000 + number * 16_666_667, 1_000_000_000)
    return START_S + seconds, nanoseconds


def pulse(
    number: int,
    banks: Mapping[int, Sequence[tuple[int, int]]],
    monitors: Mapping[int, Sequence[int]] | None = None,
    flags: int = 0,
) -> bytes:
    """The packets of one pulse: {bank: [(tof in 100 ns, pixel)]}, {beam monitor: [tof in 100 ns]}."""
    header = PulseHeader(1_800_000, 937_987_556, number % 600, 4, flags)
    sections = [MonitorSection(one, 0, False, 0, np.array(tofs, np.uint32)) for one, tofs in (monitors or {}).items()]
    found = []
    for bank, events in banks.items():
        columns = np.array(events, np.uint32).reshape(-1, 2)
        found.append(Bank(bank, columns[:, 0], columns[:, 1]))
    source = SourceSection(1, 166_667, True, 0, tuple(found))
    when = pulse_time(number)
    return encode(MonitorEvents(header, tuple(sections)), *when) + encode(BankedEvents(header, (source,)), *when)


def device(device_id: int, variables: Sequence[tuple[str, str, str]], enumerations: str = "") -> bytes:
    """A descriptor of variables 1, 2, ...: (connection, alias, type)."""
    described = "".join(
        f"<process_variable><pv_name>{alias}</pv_name><pv_connection>{connection}</pv_connection>"
        f"<pv_id>{number}</pv_id><pv_type>{kind}</pv_type></process_variable>"
        for number, (connection, alias, kind) in enumerate(variables, 1)
    )
    xml = (
        f'<device xmlns="http://public.sns.gov/schema/device.xsd"><device_name>d{device_id}</device_name>'
        f"{enumerations}<process_variables>{described}</process_variables></device>"
    )
    return encode(DeviceDescriptor(device_id, xml), START_S, 0)


def value(device_id: int, variable: int, kind: str, what: object, number: int = 0) -> bytes:
    """A value of a variable at the time of a pulse."""
    return encode(VariableValue(device_id, variable, 0, 0, kind, what), *pulse_time(number))  # type: ignore[arg-type]


def end(number: int = 0, *, data_done: bool = True) -> bytes:
    """The end of the run."""
    ended = encode(RunStatus(RUN_NUMBER, START_S, RunStatusCode.END_RUN, 0x001001), *pulse_time(number))
    return ended + (encode(Empty(data_done=True), 0, 0) if data_done else b"")


def run(*middle: bytes) -> bytes:
    """A whole run."""
    return prologue() + b"".join(middle) + end(1000)
