"""The slow-control source: devices, and the values of their variables, as the facility's gateway to EPICS sends them.

A client is greeted with an empty SOURCE_LIST, all descriptors, and the last value of everything; then it is sent what
changes. After a while without anything to send, a heartbeat goes out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

import numpy as np

from neutronflow.domain.adara.packets import DeviceDescriptor, Empty, SourceList, VariableValue, encode
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.instrument.simulator.clients import Clients

_NS: Final = 1_000_000_000
_HEARTBEAT_ID: Final = 0xFFFFFFFF
_KINDS: Final = {"double": "double", "string": "string"}
#: EPICS alarm: status and severity.
_NO_ALARM: Final = (0, 0)
_HIGH: Final = (4, 1)
_LOW: Final = (6, 1)

#: The sample is within so many K of its setpoint, or there is an alarm.
_TOLERANCE_K: Final = 5.0
#: How fast the sample follows its setpoint, in s.
_RELAXATION_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a variable at one time (ns since the Unix epoch), as it was sent."""

    time_ns: int
    #: The EPICS channel.
    name: str
    value: int | float | str
    status: int = 0
    severity: int = 0


@dataclass(slots=True)
class Variable:
    """A process variable of a device. ``kind`` is integer, double, string or an enumeration's name."""

    alias: str
    channel: str
    device_id: int
    variable_id: int
    kind: str
    value: int | float | str
    units: str = ""
    ignore: bool = False
    time_ns: int = 0
    alarm: tuple[int, int] = _NO_ALARM

    def packet(self) -> bytes:
        """The value as it is now."""
        kind = _KINDS.get(self.kind, "u32")
        value = VariableValue(self.device_id, self.variable_id, *self.alarm, kind, self.value)
        return encode(value, self.time_ns // _NS - EPICS_EPOCH_UNIX, self.time_ns % _NS)

    def reading(self) -> Reading:
        """The value as it is now, for the record."""
        return Reading(self.time_ns, self.channel, self.value, *self.alarm)


@dataclass(frozen=True, slots=True)
class Device:
    """Some variables with one descriptor."""

    device_id: int
    name: str
    variables: tuple[Variable, ...]
    enumerations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def descriptor(self) -> str:
        """The device in XML, as the gateway writes it."""
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '  <device xmlns="http://public.sns.gov/schema/device.xsd"',
            '  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"',
            '  xsi:schemaLocation="http://public.sns.gov/schema/device.xsd http://public.sns.gov/schema/device.xsd">',
            f"  <device_name>{escape(self.name)}</device_name>",
        ]
        if self.enumerations:
            lines.append("  <enumerations>")
            for name, elements in self.enumerations.items():
                lines += ["    <enumeration>", f"      <enum_name>{name}</enum_name>"]
                for value, element in enumerate(elements):
                    lines += [
                        "        <enum_element>",
                        f"          <enum_element_name>{escape(element)}</enum_element_name>",
                        f"          <enum_element_value>{value}</enum_element_value>",
                        "        </enum_element>",
                    ]
                lines.append("    </enumeration>")
            lines.append("  </enumerations>")
        lines.append("  <process_variables>")
        for variable in self.variables:
            lines += [
                "    <process_variable>",
                f"      <pv_name>{escape(variable.alias)}</pv_name>",
                f"      <pv_connection>{escape(variable.channel)}</pv_connection>",
                f"      <pv_id>{variable.variable_id}</pv_id>",
                f"      <pv_type>{variable.kind}</pv_type>",
                *([f"      <pv_units>{escape(variable.units)}</pv_units>"] if variable.units else []),
                *(["      <pv_ignore>1</pv_ignore>"] if variable.ignore else []),
                "    </process_variable>",
            ]
        lines += ["  </process_variables>", "</device>", ""]
        return "\n".join(lines)


class Controls:
    """The devices of the beamline, and how their values change.

    ``changed`` is told of every value. Nothing is random here but the noise of readings, which the seed decides.
    """

    def __init__(self, beamline_id: str, seed: int, changed: Callable[[Variable], None]) -> None:
        self._changed = changed
        self._random = np.random.default_rng(seed)
        self._begin_ns = self._last_ns = time.time_ns()
        self._temperature = 300.0

        def variable(  # noqa: PLR0917 - a table of them follows
            device: int, number: int, alias: str, channel: str, kind: str, value: int | float | str, units: str = ""
        ) -> Variable:
            return Variable(alias, f"{beamline_id}:{channel}", device, number, kind, value, units)

        self.temperature = variable(1, 1, "SampleTemp", "SE:SampleTemp", "double", 300.0, "K")
        self.setpoint = variable(1, 2, "SampleTempSetpoint", "SE:SampleTempSP", "double", 300.0, "K")
        self.heater = variable(1, 3, "HeaterRange", "SE:HeaterRange", "enum_01", 1)
        self.speed = variable(2, 1, "ChopperSpeed", "Chop:Speed", "double", 60.0, "Hz")
        self.phase = variable(2, 2, "ChopperPhase", "Chop:Phase", "double", 1420.0, "us")
        self.scan_index = variable(3, 1, "ScanIndex", "CS:ScanIndex", "integer", 0)
        self.scan_title = variable(3, 2, "ScanTitle", "CS:ScanTitle", "string", "none")
        self.shutter = variable(4, 1, "Shutter", "PPS:Shutter", "enum_01", 1)
        self.heartbeat = Variable(
            "HeartbeatPVSD", "HeartbeatPVSD", _HEARTBEAT_ID, _HEARTBEAT_ID, "unsigned integer", 0, ignore=True
        )
        self.devices = (
            Device(_HEARTBEAT_ID, "HeartbeatDevice", (self.heartbeat,)),
            Device(1, "SampleEnv", (self.temperature, self.setpoint, self.heater), {"enum_01": ("Off", "Low", "High")}),
            Device(2, "Chopper", (self.speed, self.phase)),
            Device(3, "Scan", (self.scan_index, self.scan_title)),
            Device(4, "Shutter", (self.shutter,), {"enum_01": ("Closed", "Open")}),
        )
        for device in self.devices:
            for one in device.variables:
                one.time_ns = self._begin_ns

    def variables(self) -> list[Variable]:
        """All variables, device by device."""
        return [variable for device in self.devices for variable in device.variables]

    def set(self, variable: Variable, value: int | float | str, alarm: tuple[int, int] = _NO_ALARM) -> None:
        """Give a variable a value, with the present as its time."""
        variable.value, variable.alarm = value, alarm
        # Two values of one variable never have the same time.
        variable.time_ns = max(time.time_ns(), variable.time_ns + 1)
        self._changed(variable)

    def read(self) -> None:
        """Let time pass, and read all that changes by itself."""
        now = time.time_ns()
        passed, age = (now - self._last_ns) / _NS, (now - self._begin_ns) / _NS
        self._last_ns = max(now, self._last_ns)
        wanted = float(self.setpoint.value) + 0.05 * math.sin(2.0 * math.pi * age / 90.0)
        self._temperature = wanted + (self._temperature - wanted) * math.exp(-max(passed, 0.0) / _RELAXATION_S)
        away = self._temperature - float(self.setpoint.value)
        alarm = _HIGH if away > _TOLERANCE_K else _LOW if away < -_TOLERANCE_K else _NO_ALARM
        noise = self._random.standard_normal(3)
        self.set(self.temperature, round(self._temperature + 0.01 * float(noise[0]), 4), alarm)
        heating = 2 if away < -_TOLERANCE_K else 0 if away > _TOLERANCE_K else 1
        if heating != self.heater.value:
            self.set(self.heater, heating)
        self.set(self.speed, round(60.0 + 0.0005 * float(noise[1]), 5))
        self.set(self.phase, round(1420.0 + 0.2 * float(noise[2]), 2))

    def greeting(self) -> bytes:
        """What a new client is sent."""
        now = time.time() - EPICS_EPOCH_UNIX
        parts = [encode(SourceList(()), int(now), 0)]
        parts += [
            encode(DeviceDescriptor(device.device_id, device.descriptor()), int(now), 0) for device in self.devices
        ]
        parts += [variable.packet() for variable in self.variables()]
        return b"".join(parts)


async def read_forever(controls: Controls, every_s: float) -> None:
    """Read what changes by itself, until cancelled."""
    while True:
        controls.read()
        await asyncio.sleep(every_s)


class Heart:
    """Sends changes to the clients, and heartbeats where there are none for ``every_s``."""

    def __init__(self, clients: Clients, every_s: float) -> None:
        self._clients = clients
        self._every_s = every_s
        self._last = time.monotonic()

    def send(self, data: bytes) -> None:
        """Send something."""
        self._last = time.monotonic()
        self._clients.send(data)

    async def beat_forever(self, controls: Controls) -> None:
        """Until cancelled."""
        while True:
            left = self._last + self._every_s - time.monotonic()
            if left > 0.0:
                await asyncio.sleep(left)
                continue
            seconds, nanoseconds = divmod(time.time_ns(), _NS)
            self.send(encode(Empty(data_done=False), seconds - EPICS_EPOCH_UNIX, nanoseconds))
            controls.set(controls.heartbeat, 0)
