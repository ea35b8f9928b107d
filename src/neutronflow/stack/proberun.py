"""The run that the probe sends: one bank of 64 pixels, a beam monitor, one process variable, 60 pulses."""

from __future__ import annotations

import time
from typing import Final
from xml.sax.saxutils import escape

import numpy as np

from neutronflow.domain.adara.clock import stamp_of
from neutronflow.domain.adara.packets import (
    Bank,
    BankedEvents,
    BeamlineInfo,
    DeviceDescriptor,
    Empty,
    Geometry,
    MapSection,
    MonitorEvents,
    MonitorSection,
    PixelMapping,
    PulseHeader,
    RunInfo,
    RunStatus,
    RunStatusCode,
    SourceSection,
    Sync,
    VariableValue,
    encode,
)
from neutronflow.domain.facility import PROBE, RunKey

PULSES: Final = 60
EVENTS_A_PULSE: Final = 100
_PIXELS: Final = 64
_GEOMETRY: Final = """<?xml version="1.0" encoding="UTF-8"?>
<instrument xmlns="http://www.mantidproject.org/IDF/1.0" name="PROBE" valid-from="1990-01-01 00:00:00">
  <defaults><length unit="meter"/><angle unit="degree"/></defaults>
  <component type="moderator"><location z="-10.0"/></component>
  <type name="moderator" is="Source"/>
  <component type="sample-position"><location x="0.0" y="0.0" z="0.0"/></component>
  <type name="sample-position" is="SamplePos"/>
  <component type="panel" idstart="0" idfillbyfirst="y" idstep="1" idstepbyrow="8"><location x="1.0" z="1.0" name="bank1"/></component>
  <type name="panel" is="rectangular_detector" type="pixel" xpixels="8" xstart="-0.07" xstep="0.02" ypixels="8" ystart="-0.07" ystep="0.02"/>
  <type name="pixel" is="detector"/>
</instrument>
"""  # noqa: E501
_DEVICE: Final = """<?xml version="1.0" encoding="UTF-8"?>
<device xmlns="http://public.sns.gov/schema/device.xsd">
  <device_name>Probe</device_name>
  <process_variables>
    <process_variable>
      <pv_name>ProbeValue</pv_name>
      <pv_connection>PROBE:Value</pv_connection>
      <pv_id>1</pv_id>
      <pv_type>double</pv_type>
      <pv_units>1</pv_units>
    </process_variable>
  </process_variables>
</device>
"""


def probe_stream(key: RunKey, experiment: str) -> bytes:
    """The whole stream of a run that began a second ago; the same events each time."""
    began_ns = time.time_ns() - 1_000_000_000
    start, fraction = stamp_of(began_ns)
    random = np.random.default_rng(1)
    parts = [
        encode(packet, start, fraction)
        for packet in (
            Sync(0),
            RunStatus(key.run_number, start, RunStatusCode.NEW_RUN, 0x1001),
            DeviceDescriptor(1, _DEVICE),
            VariableValue(1, 1, 0, 0, "double", 1.0),
            BeamlineInfo(PROBE, PROBE, PROBE),
            RunInfo(_run_info(key, experiment)),
            Geometry(_GEOMETRY),
            PixelMapping(
                (MapSection((0, (1 << 16) | _PIXELS), np.arange(_PIXELS, dtype=np.uint32)),),
                alternative=True,
                bank_count=1,
            ),
        )
    ]
    for number in range(PULSES):
        seconds, nanoseconds = stamp_of(began_ns + number * 16_666_667)
        header = PulseHeader(1_000_000, 937_987_556, number, 0, 0x200)
        tof = random.integers(10_000, 160_000, EVENTS_A_PULSE, dtype=np.uint32)
        pixel = random.integers(0, _PIXELS, EVENTS_A_PULSE, dtype=np.uint32)
        monitor = random.integers(10_000, 160_000, 5, dtype=np.uint32) | np.uint32(1 << 31)
        source = SourceSection(1, 166_667, corrected=True, tof_offset_100ns=0, banks=(Bank(1, tof, pixel),))
        section = MonitorSection(1, 1, corrected=True, tof_offset_100ns=0, events=monitor)
        parts.append(encode(MonitorEvents(header, (section,)), seconds, nanoseconds))
        parts.append(encode(BankedEvents(header, (source,)), seconds, nanoseconds))
    parts.append(encode(RunStatus(key.run_number, start, RunStatusCode.END_RUN, 0x1001), seconds, nanoseconds))
    parts.append(encode(Empty(data_done=True), 0, 0))
    return b"".join(parts)


def _run_info(key: RunKey, experiment: str) -> str:
    fields = {
        "das_version": "Neutronflow probe",
        "facility_name": key.facility,
        "instrument_name": PROBE,
        "run_number": str(key.run_number),
        "proposal_id": experiment,
        "proposal_title": "Probe of the running stack",
        "run_title": "Probe",
        "simulated": "true",
    }
    lines = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in fields.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<runinfo xmlns="http://public.sns.gov/schema/runinfo.xsd">{lines}<no_sample_info/></runinfo>'
    )
