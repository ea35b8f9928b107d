"""The NeXus file of a run, written while its events arrive.

The layout is that of the files that the facility's programs and readers know; ``docs/reference/nexus.md`` describes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from neutronflow import __version__
from neutronflow.domain.adara.eventpackets import BANK_ERROR, BANK_UNMAPPED, PULSE_VETO
from neutronflow.domain.adara.events import EventBlock
from neutronflow.domain.adara.packets import BeamlineInfo
from neutronflow.domain.adara.pixelmap import Pixels
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX
from neutronflow.instrument.translation import hdf5
from neutronflow.instrument.translation.clock import Clock, iso
from neutronflow.instrument.translation.description import RunDescription
from neutronflow.instrument.translation.logs import ProcessVariables, put_statistics
from neutronflow.instrument.translation.problems import Problems

NEXUS_VERSION = "4.3.3"
_PICOCOULOMBS_PER_COUNT = 10.0
_MICROSECOND = {"units": "microsecond"}


@dataclass(slots=True)
class Markers:
    """What annotations have told: (Unix ns, value)."""

    comments: list[tuple[int, str]] = field(default_factory=list)
    pauses: list[tuple[int, int]] = field(default_factory=list)
    scans: list[tuple[int, int]] = field(default_factory=list)
    notes: tuple[int, str] | None = None


@dataclass(slots=True)
class Header:
    """What the stream said before and beside its events."""

    run_number: int
    run_start_ns: int
    beamline: BeamlineInfo
    description: RunDescription
    geometry: str
    pixels: Mapping[int, tuple[Pixels, Pixels]]
    variables: ProcessVariables
    markers: Markers
    problems: Problems


class _Events:
    """The three growing columns of a bank or a beam monitor."""

    def __init__(self, group: h5py.Group, target: str, *, with_pixels: bool) -> None:
        self._group = group
        self._target = target
        self._tof = hdf5.Column(group, "event_time_offset", "f4", _MICROSECOND | self._attributes("event_time_offset"))
        self._index = hdf5.Column(group, "event_index", "u8", self._attributes("event_index"))
        self._pixel = hdf5.Column(group, "event_id", "u4", self._attributes("event_id")) if with_pixels else None

    def _attributes(self, name: str) -> dict[str, str | np.generic]:
        return {"target": f"{self._target}/{name}"} if self._target else {}

    def append(
        self, tof: npt.NDArray[np.float32], pixel: Pixels | None, index: npt.NDArray[np.uint64], pulses: int
    ) -> None:
        """Add the events of a block; ``pulses`` is how many there were before it."""
        self._index.fill(0, pulses)  # for a beam monitor seen for the first time now: it had no events before
        self._index.append(index)
        if len(tof):
            self._tof.append(tof)
            if self._pixel is not None and pixel is not None:
                self._pixel.append(pixel)

    def close(self, times: h5py.Dataset, pulses: int) -> int:
        """Write what is left, the links and the total; gives back the total."""
        total = len(self._tof)
        self._index.fill(total, pulses)
        for column in (self._tof, self._index, self._pixel):
            if column is not None:
                column.close()
        self._group["event_time_zero"] = times
        hdf5.put_scalar(self._group, "total_counts", np.uint64(total), self._attributes("total_counts"))
        return total


class NexusWriter:
    """Writes one run's file. ``append`` what arrives, then ``finish``; or ``abandon``."""

    def __init__(self, path: Path, file_name: str, header: Header, bank_ids: Sequence[int]) -> None:
        self._file = h5py.File(path, "w", libver=("earliest", "v110"))
        self._header = header
        hdf5.put_attribute(self._file, "NeXus_version", NEXUS_VERSION)
        hdf5.put_attribute(self._file, "HDF5_Version", h5py.version.hdf5_version)
        hdf5.put_attribute(self._file, "file_name", file_name)
        hdf5.put_attribute(self._file, "file_time", datetime.now(UTC).isoformat(timespec="seconds"))
        self._entry = hdf5.make_group(self._file, "entry", "NXentry")
        self._logs = hdf5.make_group(self._entry, "DASlogs", "NXcollection")
        self._instrument = hdf5.make_group(self._entry, "instrument", "NXinstrument")
        self._banks = [self._make_bank(bank) for bank in bank_ids]
        self._bank_ids = list(bank_ids)
        self._monitors: list[_Events] = []
        self._monitor_ids: list[int] = []
        self.pulses = 0
        self._clock: Clock | None = None
        self._frequency = hdf5.make_group(self._logs, "frequency", "NXlog")
        self._charge = hdf5.make_group(self._logs, "proton_charge", "NXlog")
        self._pulse_ns: list[npt.NDArray[np.int64]] = []
        self._charges: list[npt.NDArray[np.uint32]] = []
        self._flags: list[npt.NDArray[np.uint32]] = []
        self._undefined = 0

    @property
    def finished(self) -> bool:
        """Whether the file is closed."""
        return not self._file

    def describe(self, description: RunDescription) -> None:
        """Take a later description of the run: of several, the last holds."""
        self._header.description = description

    def append(self, block: EventBlock) -> None:
        """Add the events of a block."""
        if not len(block.pulse_id):
            return
        seconds = (block.pulse_id >> np.uint64(32)).astype(np.int64) + EPICS_EPOCH_UNIX
        times = seconds * 1_000_000_000 + (block.pulse_id & np.uint64(0xFFFFFFFF)).astype(np.int64)
        if self._clock is None:
            self._clock = Clock(int(times[0]))
        self._pulse_ns.append(times)
        self._charges.append(block.charge_10pc)
        self._flags.append(block.flags)
        self._undefined += block.undefined
        for slot, bank in enumerate(self._banks):
            events = slice(block.starts[slot], block.starts[slot + 1])
            bank.append(block.tof_us[events], block.pixel[events], block.index[slot], self.pulses)
        for slot, monitor_id in enumerate(block.monitor_ids):
            events = slice(block.monitor_starts[slot], block.monitor_starts[slot + 1])
            self._monitor(slot, monitor_id).append(
                block.monitor_tof_us[events], None, block.monitor_index[slot], self.pulses
            )
        self.pulses += len(times)

    def finish(self) -> int:
        """Write everything that is known only at the end, and close the file. Gives back the number of detector events."""
        clock = self._clock or Clock(self._header.run_start_ns)
        times = _joined(self._pulse_ns, np.int64)
        times_dataset, end_s = self._write_pulses(clock, times)
        totals = [bank.close(times_dataset, self.pulses) for bank in self._banks]
        monitor_total = sum(monitor.close(times_dataset, self.pulses) for monitor in self._monitors)
        self._link_banks(times_dataset)
        self._write_totals(totals, monitor_total)
        self._write_entry(clock, end_s)
        self._write_instrument()
        self._write_markers(clock)
        self._header.variables.write(self._logs, clock)
        self._header.description.write_people_and_sample(self._entry)
        self._write_software(clock)
        self._file.flush()
        self.abandon()
        return sum(totals[2:])

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()

    def _make_bank(self, bank: int) -> _Events:
        name = _bank_name(bank)
        group = hdf5.make_group(self._entry, f"{name}_events", "NXevent_data")
        return _Events(group, f"/entry/instrument/{name}", with_pixels=True)

    def _monitor(self, slot: int, monitor_id: int) -> _Events:
        if slot == len(self._monitors):
            group = hdf5.make_group(self._entry, f"monitor{monitor_id}", "NXmonitor")
            self._monitors.append(_Events(group, "", with_pixels=False))
            self._monitor_ids.append(monitor_id)
        return self._monitors[slot]

    def _write_pulses(self, clock: Clock, times_ns: npt.NDArray[np.int64]) -> tuple[h5py.Dataset, float]:
        """frequency, proton_charge, pulse_flags and vetoes; gives back the pulse times' dataset and the last time, in s."""
        seconds = np.maximum(times_ns - clock.start_ns, 0) / 1e9
        target = {"target": "/entry/DASlogs/frequency/time"}
        times = hdf5.put_column(self._frequency, "time", "f8", seconds, {**clock.attributes("offset"), **target})
        frequency = np.zeros(len(times_ns))
        steps = np.diff(times_ns).astype(np.float64)
        np.divide(1e9, steps, out=frequency[1:], where=steps > 0)
        self._log_values(self._frequency, "f8", frequency, "Hz", frequency[1:])
        charge = _joined(self._charges, np.uint32) * _PICOCOULOMBS_PER_COUNT
        self._charge["time"] = times
        self._log_values(self._charge, "f8", charge, "picoCoulombs", charge)
        # Added in order, as the sum of floating-point numbers depends on it.
        hdf5.put_scalar(self._entry, "proton_charge", np.float64(_sum(charge)), {"units": "picoCoulombs"})
        flags = _joined(self._flags, np.uint32)
        other = flags & np.uint32(0xFFFFF & ~PULSE_VETO)
        group = hdf5.make_group(self._logs, "pulse_flags", "NXcollection")
        hdf5.put_column(group, "time", "f8", seconds[other != 0], clock.attributes())
        hdf5.put_column(group, "value", "u4", other[other != 0])
        group = hdf5.make_group(self._logs, "Veto_pulse", "NXcollection")
        hdf5.put_column(group, "veto_pulse_time", "f8", seconds[(flags & PULSE_VETO) != 0], clock.attributes())
        return times, float(seconds.max()) if len(seconds) else 0.0

    def _log_values(
        self, group: h5py.Group, dtype: str, values: hdf5.Array, units: str, counted: npt.NDArray[np.float64]
    ) -> None:
        hdf5.put_column(group, "value", dtype, values, {"units": units} if units else None)
        if len(counted):
            put_statistics(group, counted, units)

    def _link_banks(self, times: h5py.Dataset) -> None:
        """The same columns below /entry/instrument, where the detectors stand."""
        for bank in self._bank_ids:
            name = _bank_name(bank)
            events = self._entry[f"{name}_events"]
            detector = hdf5.make_group(self._instrument, name, "NXdetector")
            for part in ("event_time_offset", "event_id", "event_index", "total_counts"):
                detector[part] = events[part]
            detector["event_time_zero"] = times
            if self._header.description.save_pixel_map:
                nothing = np.empty(0, np.uint32)
                known = self._header.pixels.get(bank, (nothing, nothing))
                for part, pixels in zip(("pixel_id", "pixel_id_raw"), known, strict=True):
                    hdf5.put_column(detector, part, "u4", pixels, empty_chunk=hdf5.CHUNK)

    def _write_totals(self, totals: Sequence[int], monitor_total: int) -> None:
        unmapped, error, counted = totals[0], totals[1], sum(totals[2:])
        hdf5.put_scalar(self._entry, "total_counts", np.uint64(counted))
        uncounted = {
            "ERROR_bit_or_unknown_other": np.uint64(error),
            "events_have_no_bank": np.uint64(unmapped + self._undefined),
        }
        hdf5.put_scalar(self._entry, "total_uncounted_counts", np.uint64(unmapped + error + self._undefined), uncounted)
        hdf5.put_scalar(self._entry, "total_other_counts", np.uint64(monitor_total))
        frames = hdf5.put_scalar(self._entry, "raw_frames", np.uint64(self.pulses), {"target": "/entry/total_pulses"})
        self._entry["total_pulses"] = frames

    def _write_entry(self, clock: Clock, end_s: float) -> None:
        run = str(self._header.run_number)
        texts = {
            "definition": "NXsnsevent",
            "entry_identifier": run,
            "run_number": run,
            "experiment_identifier": self._header.description.text("proposal_id"),
            "experiment_title": self._header.description.text("proposal_title"),
            "title": self._header.description.text("run_title"),
            "start_time": iso(clock.start_ns),
            "end_time": iso(clock.start_ns + round(end_s * 1e9)),
        }
        for name, text in texts.items():
            hdf5.put_text(self._entry, name, text)
        if self._header.description.simulated:
            # The files of today's facilities know no such thing.
            self._entry.attrs["simulated"] = np.uint8(1)
        hdf5.put_scalar(self._entry, "duration", np.float32(end_s), {"units": "second"})
        when, notes = self._header.markers.notes or (clock.start_ns, "(unset)")
        hdf5.put_text(self._entry, "notes", notes, {"time": iso(when)})

    def _write_instrument(self) -> None:
        beamline = self._header.beamline
        hdf5.put_text(self._instrument, "beamline", beamline.beamline_id)
        hdf5.put_text(self._instrument, "name", beamline.long_name, {"short_name": beamline.short_name})
        hdf5.put_scalar(self._instrument, "target_station_number", np.uint32(beamline.target_station))
        if self._header.geometry:
            note = hdf5.make_group(self._instrument, "instrument_xml", "NXnote")
            hdf5.put_text(note, "data", self._header.geometry)
            hdf5.put_text(note, "description", "XML contents of the instrument IDF")
            hdf5.put_text(note, "type", "text/xml")

    def _write_markers(self, clock: Clock) -> None:
        markers = self._header.markers
        for name, dtype, entries in (("pause", "u2", markers.pauses), ("scan_index", "u4", markers.scans)):
            group = hdf5.make_group(self._logs, name, "NXlog")
            seconds = np.array([0.0, *(clock.seconds(time) for time, _ in entries)])
            values = np.array([0, *(value for _, value in entries)], np.float64)
            hdf5.put_column(group, "time", "f8", seconds, clock.attributes())
            hdf5.put_column(group, "value", dtype, values.astype(dtype))
            if name == "scan_index":
                put_statistics(group, values, "")
        if markers.comments:
            group = hdf5.make_group(self._logs, "comments", "NXcollection")
            seconds = np.array([clock.seconds(time) for time, _ in markers.comments])
            hdf5.put_column(group, "time", "f8", seconds, clock.attributes())
            hdf5.put_texts(group, "value", [text for _, text in markers.comments])

    def _write_software(self, clock: Clock) -> None:
        software = hdf5.make_group(self._entry, "Software", "NXcollection")
        acquisition = hdf5.make_group(software, "DataAcquistion", "NXprocess")
        version = self._header.description.text("das_version")
        for name, text in {
            "program": "ADARA SMS",
            "version": version or "unknown",
            "note": "The stream service that took the data",
            "date": iso(clock.start_ns),
        }.items():
            hdf5.put_text(acquisition, name, text)
        translation = hdf5.make_group(software, "Translation", "NXprocess")
        now_ns = int(datetime.now(UTC).timestamp() * 1e9)
        for name, text in {
            "program": "Neutronflow translator",
            "version": __version__,
            "note": _note(self._header.problems),
            "date": iso(now_ns),
        }.items():
            hdf5.put_text(translation, name, text)


def _bank_name(bank: int) -> str:
    return {BANK_UNMAPPED: "bank_unmapped", BANK_ERROR: "bank_error"}.get(bank, f"bank{bank}")


def _note(problems: Problems) -> str:
    """What a reader of the file has to know of its translation."""
    lines = [f"{times} x {problem}" for problem, times in problems.as_dict().items()]
    return "\n".join(["Translated while the stream arrived", *lines])


def _joined(parts: Sequence[hdf5.Array], dtype: type[np.generic]) -> hdf5.Array:
    return np.concatenate([np.empty(0, dtype), *parts])


def _sum(values: npt.NDArray[np.float64]) -> float:
    return float(np.cumsum(values)[-1]) if len(values) else 0.0
