from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.instrument.simulator.layout import BANKS, MONITORS
from neutronflow.instrument.simulator.pulses import Generator, Pulse, pulse_id
from neutronflow.instrument.simulator.record import PULSE, Record, read_pulses, read_variables
from neutronflow.instrument.simulator.settings import SimulatorSettings
from neutronflow.instrument.simulator.slowcontrol import Reading
from tests.support.simulated import simulated_run

#: The last second of a minute begins here.
FIRST = 1_164_240_059 * 60
GENERATOR = Generator(SimulatorSettings(events_per_s=5000.0))


def drawn(count: int, first: int = FIRST) -> list[Pulse]:
    return [GENERATOR.pulse(number) for number in range(first, first + count)]


def test_the_record_holds_what_was_drawn_across_minutes(tmp_path: Path) -> None:
    record, pulses = Record(tmp_path, 10), drawn(120)
    for pulse in pulses:
        record.pulse(pulse)
    # Nothing has to be closed: what is recorded can be read.
    assert len(list(tmp_path.glob("pulses-*.bin"))) == 2
    rows = read_pulses(tmp_path, pulse_id(FIRST + 10), pulse_id(FIRST + 99))
    assert len(rows) == 90
    for pulse, row in zip(pulses[10:100], rows, strict=True):
        assert row["pulse_id"] == pulse_id(pulse.number)
        assert row["charge_10pc"] == pulse.charge_10pc
        assert np.array_equal(row["banks"], pulse.bank_counts)
        assert row["banks"].sum() == len(pulse.tof)
        assert row["monitors"].tolist() == [len(pulse.monitors[1]), len(pulse.monitors[2])]


def test_half_a_row_at_the_end_is_cut_off_before_the_next_one(tmp_path: Path) -> None:
    record, pulses = Record(tmp_path, 10), drawn(3, FIRST - 600)
    record.pulse(pulses[0])
    record.close()
    (file,) = tmp_path.glob("pulses-*.bin")
    with file.open("ab") as stream:
        stream.write(b"half a row")
    again = Record(tmp_path, 10)
    again.pulse(pulses[1])
    assert file.stat().st_size == 2 * PULSE.itemsize
    rows = np.fromfile(file, PULSE)
    assert rows["pulse_id"].tolist() == [pulse_id(pulse.number) for pulse in pulses[:2]]


def test_values_are_recorded_with_their_times(tmp_path: Path) -> None:
    record = Record(tmp_path, 10)
    readings = [
        Reading(60_000_000_000 * 7 - 1, "BL11A:SE:SampleTemp", 300.25),
        Reading(60_000_000_000 * 7, "BL11A:CS:ScanTitle", "ä \n", 4, 1),
        Reading(60_000_000_000 * 7 + 5, "BL11A:CS:ScanIndex", 3),
    ]
    for reading in readings:
        record.reading(reading)
    assert read_variables(tmp_path, 0, 60_000_000_000 * 8) == readings
    assert read_variables(tmp_path, readings[1].time_ns, readings[1].time_ns) == readings[1:2]


def test_only_the_last_minutes_are_kept(tmp_path: Path) -> None:
    record = Record(tmp_path, 5)
    for minute in range(10):
        record.pulse(drawn(1, FIRST + 3600 * minute)[0])
        record.reading(Reading((FIRST // 60 + 631152000 + 60 * minute) * 10**9, "x", 1))
    (tmp_path / "pulses-kept.bin").write_bytes(b"")
    assert len(list(tmp_path.glob("pulses-2*.bin"))) == 6
    assert len(list(tmp_path.glob("variables-*.jsonl"))) == 6
    assert (tmp_path / "pulses-kept.bin").exists()


def test_a_full_disk_leaves_a_gap_in_the_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, pulses, write = Record(tmp_path, 10), drawn(4, FIRST - 600), os.write
    record.pulse(pulses[0])
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:10]))
    record.pulse(pulses[1])

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    record.pulse(pulses[2])
    monkeypatch.undo()
    record.pulse(pulses[3])
    assert record.lost == 2
    rows = read_pulses(tmp_path, pulse_id(pulses[0].number), pulse_id(pulses[3].number))
    assert rows["pulse_id"].tolist() == [pulse_id(pulses[0].number), pulse_id(pulses[3].number)]


def test_values_are_forgotten_too_when_nobody_takes_pulses(tmp_path: Path) -> None:
    record = Record(tmp_path, 5)
    for minute in range(100, 110):
        record.reading(Reading(60_000_000_000 * minute, "x", 1))
    assert len(list(tmp_path.glob("variables-*.jsonl"))) == 6


def test_a_run_that_was_translated_holds_what_the_record_says(tmp_path: Path) -> None:
    run = simulated_run(tmp_path, 90, SimulatorSettings(events_per_s=80_000.0))
    rows = read_pulses(run.records, pulse_id(run.pulses[0].number), pulse_id(run.pulses[-1].number))
    with h5py.File(run.path) as file:
        entry = file["entry"]
        assert np.array_equal(entry["DASlogs/proton_charge/value"][()], rows["charge_10pc"] * 10.0)
        times = entry["DASlogs/frequency/time"][()]
        ids = rows["pulse_id"].astype(object)
        ns = np.array([(one >> 32) * 10**9 + (one & 0xFFFFFFFF) for one in ids])
        assert np.array_equal(times, (ns - ns[0]).astype(np.int64) / 1e9)
        for bank in range(1, BANKS + 1):
            index = entry[f"bank{bank}_events/event_index"][()].astype(np.int64)
            total = int(entry[f"bank{bank}_events/total_counts"][0])
            assert np.array_equal(np.diff(np.append(index, total)), rows["banks"][:, bank - 1])
        for column, monitor in enumerate(MONITORS):
            index = entry[f"monitor{monitor}/event_index"][()].astype(np.int64)
            total = int(entry[f"monitor{monitor}/total_counts"][0])
            assert np.array_equal(np.diff(np.append(index, total)), rows["monitors"][:, column])
        assert int(entry["total_counts"][0]) == rows["banks"].sum()
