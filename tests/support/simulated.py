"""A run of the simulated diffractometer as a NeXus file: its sources' bytes, mapped to banks, through the real translator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np

from neutronflow.domain.adara.eventpackets import (
    Bank,
    BankedEvents,
    MonitorEvents,
    MonitorSection,
    PulseHeader,
    RawEvents,
    SourceSection,
)
from neutronflow.domain.adara.packets import (
    BeamlineInfo,
    Geometry,
    MapSection,
    PixelMapping,
    RunInfo,
    RunStatus,
    RunStatusCode,
    decode,
    encode,
)
from neutronflow.domain.adara.wire import PacketReader
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.instrument.simulator.detector import Packer
from neutronflow.instrument.simulator.layout import definition, pixel_map
from neutronflow.instrument.simulator.pulses import Generator, Pulse
from neutronflow.instrument.simulator.record import Record
from neutronflow.instrument.simulator.settings import SimulatorSettings
from neutronflow.instrument.simulator.slowcontrol import Controls
from neutronflow.instrument.translation.assembler import Assembler

FIRST_PULSE = 1_164_240_059 * 60
_RUN_INFO = (
    '<runinfo xmlns="http://public.sns.gov/schema/runinfo.xsd"><facility_name>SNS</facility_name>'
    "<run_number>{run}</run_number><proposal_id>IPTS-99001</proposal_id><run_title>{title}</run_title>"
    "<save_pixel_map/></runinfo>"
)


@dataclass(frozen=True)
class SimulatedRun:
    """Its file, its record's folder, and the pulses drawn for it."""

    path: Path
    records: Path
    pulses: list[Pulse]


def simulated_run(
    folder: Path, pulses: int, settings: SimulatorSettings, *, run_number: int = 7, title: str = "Si, 300 K"
) -> SimulatedRun:
    """Draw, record and translate a run of so many pulses, marked as simulated."""
    generator, packer, record = Generator(settings), Packer(), Record(folder / "records", 10)
    drawn, parts, before = [], [], generator.charge(FIRST_PULSE - 1)
    for number in range(FIRST_PULSE, FIRST_PULSE + pulses):
        pulse = generator.pulse(number)
        record.pulse(pulse)
        drawn.append(pulse)
        parts.append(packer.packets(pulse, before, number - 1))
        before = pulse.charge_10pc
    # The charge of the last one stands in what follows it.
    parts.append(packer.packets(generator.pulse(FIRST_PULSE + pulses), before, FIRST_PULSE + pulses - 1))
    record.close()
    path = folder / f"PG3_{run_number}.nxs.h5"
    assembler = Assembler(path)
    assembler.feed(b"".join(_stream(b"".join(parts), run_number, title)))
    assembler.finish()
    with h5py.File(path, "r+") as file:
        file["entry"].attrs["simulated"] = True
    return SimulatedRun(path, folder / "records", drawn)


def _stream(raw: bytes, run_number: int, title: str) -> Iterator[bytes]:
    """What a stream service makes of it."""
    beamline = BeamlineSettings()
    start = FIRST_PULSE // 60
    for status in (RunStatusCode.NEW_RUN, RunStatusCode.END_RUN):
        if status is RunStatusCode.END_RUN:
            yield from _events(raw)
        yield encode(RunStatus(run_number, start, status, 1), start, 0)
        if status is RunStatusCode.NEW_RUN:
            controls = Controls(beamline.beamline_id, 1, lambda _variable: None)
            yield controls.greeting()
            names = (beamline.beamline_id, beamline.short_name, beamline.long_name)
            yield encode(BeamlineInfo(*names), start, 0)
            yield encode(RunInfo(_RUN_INFO.format(run=run_number, title=title)), start, 0)
            yield encode(Geometry(definition(beamline)), start, 0)
            yield encode(_mapping(), start, 0)


def _rows() -> Iterator[tuple[range, range, int]]:
    for line in pixel_map().splitlines():
        if not line.startswith("#"):
            physical, logical, bank = line.split()
            yield _span(physical), _span(logical), int(bank)


def _span(text: str) -> range:
    start, stop, step = map(int, text.split(":"))
    return range(start, stop + 1, step)


def _mapping() -> PixelMapping:
    sections = [
        MapSection((physical[0], bank << 16 | len(logical)), np.array(logical, np.uint32))
        for physical, logical, bank in _rows()
    ]
    return PixelMapping(tuple(sections), alternative=True, version=1, bank_count=len(sections))


def _events(raw: bytes) -> Iterator[bytes]:
    logical_of, bank_of = np.zeros(1 << 16, np.uint32), np.zeros(1 << 16, np.uint32)
    for physical, logical, bank in _rows():
        logical_of[list(physical)], bank_of[list(physical)] = list(logical), bank
    pulses = [
        [decode(packet) for packet in group]
        for _, group in groupby(PacketReader().feed(raw), key=lambda packet: packet.pulse_id)
    ]
    times = [divmod(packet.pulse_id, 1 << 32) for packet in PacketReader().feed(raw) if packet.base == 1]
    for (seconds, nanoseconds), structs, after in zip(times, pulses, pulses[1:], strict=False):
        events = [one for one in structs if isinstance(one, RawEvents)]
        charge = next(one for one in after if isinstance(one, RawEvents)).timing.charge_10pc
        pixel, tof = (np.concatenate([getattr(one, name) for one in events]) for name in ("pixel", "tof"))
        header = PulseHeader(charge, 0, events[0].timing.cycle, 0, 0x300)
        monitors = tuple(
            MonitorSection(
                int(number), 31416, True, 0, tof[(pixel >> 28 == 4) & (pixel >> 16 & 0xFFF == number)] | 0x80000000
            )
            for number in np.unique(pixel[pixel >> 28 == 4] >> 16 & 0xFFF)
        )
        yield encode(MonitorEvents(header, monitors), seconds, nanoseconds)
        detector = pixel >> 28 == 0
        physical, times_of_flight = pixel[detector], tof[detector]
        banks = tuple(
            Bank(int(bank), times_of_flight[bank_of[physical] == bank], logical_of[physical[bank_of[physical] == bank]])
            for bank in np.unique(bank_of[physical])
        )
        yield encode(BankedEvents(header, (SourceSection(31416, 0, True, 0, banks),)), seconds, nanoseconds)
