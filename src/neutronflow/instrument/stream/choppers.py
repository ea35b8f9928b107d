"""Choppers: their edges come as events and go out as values of a process variable of a device of our own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.devices import DeviceDescriptor, VariableValue
from neutronflow.domain.adara.eventpackets import MONITOR_TOF_MASK
from neutronflow.domain.adara.packets import encode
from neutronflow.instrument.stream.state import StreamState

#: Devices of choppers are this plus the chopper's number.
_DEVICE = 0x80000000
_FALLING, _RISING = 1, 2
#: Choppers have one edge or two a pulse; a source that sends more than this is out of order.
MOST_EDGES = 256

_SCHEMA = "http://public.sns.gov/schema/device.xsd"
_DESCRIPTOR = """<?xml version="1.0" encoding="UTF-8"?>
<device xmlns="{schema}">
  <device_name>{name}</device_name>
  <process_variables>
    <process_variable>
      <pv_name>{name}_falling</pv_name>
      <pv_id>1</pv_id>
      <pv_description>Falling edge, time after the pulse</pv_description>
      <pv_type>unsigned integer</pv_type>
      <pv_units>nanoseconds</pv_units>
    </process_variable>
    <process_variable>
      <pv_name>{name}</pv_name>
      <pv_id>2</pv_id>
      <pv_description>Rising edge, time after the pulse</pv_description>
      <pv_type>unsigned integer</pv_type>
      <pv_units>nanoseconds</pv_units>
    </process_variable>
  </process_variables>
</device>
"""


class Choppers:
    """Makes values of chopper edges, and a device of each chopper when its first edge comes."""

    def __init__(self, state: StreamState) -> None:
        self._state = state

    def edges(self, pulse_id: int, tof: npt.NDArray[np.uint32], pixel: npt.NDArray[np.uint32]) -> list[bytes]:
        """The packets of a pulse's edges: time of flight in 100 ns in, nanoseconds out. Both arrays have shape (edges,)."""
        packets: list[bytes] = []
        for time_100ns, word in zip(tof[:MOST_EDGES].tolist(), pixel[:MOST_EDGES].tolist(), strict=True):
            device = _DEVICE | ((word >> 16) & 0xFFF)
            after_ns = (time_100ns & MONITOR_TOF_MASK) * 100
            late, nanoseconds = divmod((pulse_id & 0xFFFFFFFF) + after_ns, 1_000_000_000)
            seconds = (pulse_id >> 32) + late
            if not self._state.knows(device):
                name = f"chopper{device & 0xFFF}_TDC"
                descriptor = DeviceDescriptor(device, _DESCRIPTOR.format(schema=_SCHEMA, name=name))
                packets.append(encode(descriptor, seconds, nanoseconds))
                self._state.describe(device, packets[-1])
            value = VariableValue(device, _RISING if word & 1 else _FALLING, 0, 0, "u32", after_ns)
            packets.append(encode(value, seconds, nanoseconds))
        return packets
