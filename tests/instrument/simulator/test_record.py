from __future__ import annotations

from pathlib import Path

import numpy as np

from neutronflow.instrument.simulator.pulses import Generator, Pulse, pulse_id
from neutronflow.instrument.simulator.record import PULSE, Record, read_pulses, read_variables
from neutronflow.instrument.simulator.settings import SimulatorSettings
from neutronflow.instrument.simulator.slowcontrol import Reading

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
