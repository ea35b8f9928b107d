from __future__ import annotations

import numpy as np
import pytest

from neutronflow.instrument.simulator.lattice import silicon_peaks
from neutronflow.instrument.simulator.layout import BANK_PIXELS, BANKS, PIXELS
from neutronflow.instrument.simulator.pulses import FRAME_100NS, Generator, pulse_id, pulse_ns, pulse_number
from neutronflow.instrument.simulator.settings import SimulatorSettings

NUMBER = 69_854_487_421


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(SimulatorSettings(seed=7))


def test_a_pulse_is_a_function_of_seed_and_number_alone(generator: Generator) -> None:
    generator.pulse(NUMBER + 5)
    first, again = generator.pulse(NUMBER), Generator(SimulatorSettings(seed=7)).pulse(NUMBER)
    assert np.array_equal(first.tof, again.tof)
    assert np.array_equal(first.pixel, again.pixel)
    assert first.charge_10pc == again.charge_10pc == generator.charge(NUMBER)
    other = Generator(SimulatorSettings(seed=8)).pulse(NUMBER)
    assert len(other.tof) != len(first.tof) or not np.array_equal(other.tof, first.tof)
    assert not np.array_equal(generator.pulse(NUMBER + 1).tof[:50], first.tof[:50])


def test_the_rate_is_the_wanted_one_and_everything_lies_in_one_frame(generator: Generator) -> None:
    pulses = [generator.pulse(number) for number in range(NUMBER, NUMBER + 600)]
    events = sum(len(pulse.tof) for pulse in pulses)
    assert events == pytest.approx(599 / 60 * 50_000, rel=0.01)
    assert sum(len(pulse.monitors[1]) for pulse in pulses) == pytest.approx(3000, rel=0.1)
    assert max(int(pulse.tof.max()) for pulse in pulses if pulse.number % 600) < FRAME_100NS
    charges = np.array([pulse.charge_10pc for pulse in pulses if pulse.number % 600])
    assert len(charges) == 599
    assert charges.mean() == pytest.approx(1_847_000, rel=0.005)
    assert 0.005 < charges.std() / charges.mean() < 0.02


def test_the_counts_by_bank_are_those_of_the_events(generator: Generator) -> None:
    pulse = generator.pulse(NUMBER)
    # Each bank's electronics has 2048 addresses.
    bank, within = np.divmod(pulse.pixel, 2048)
    assert within.max() < BANK_PIXELS
    assert np.array_equal(np.bincount(bank, minlength=BANKS), pulse.bank_counts)
    assert len(pulse.pixel) == pulse.bank_counts.sum()


def test_every_bank_and_nearly_every_pixel_is_lit(generator: Generator) -> None:
    physical = np.concatenate([generator.pulse(NUMBER + i).pixel for i in range(600)])
    assert len(np.unique(physical)) > 0.999 * PIXELS
    assert np.isin(physical, generator.pixels.physical).all()


def test_the_time_of_a_pulse_and_its_number_are_the_same_thing() -> None:
    for number in range(NUMBER, NUMBER + 121):
        assert pulse_number(pulse_ns(number)) == number
        assert pulse_number(pulse_ns(number + 1) - 1) == number
    assert pulse_id(NUMBER) >> 32 == NUMBER // 60
    assert pulse_ns(NUMBER + 60) - pulse_ns(NUMBER) == 10**9


def test_the_planes_of_silicon_are_those_of_the_books() -> None:
    spacing, weight = silicon_peaks(0.9)
    assert spacing == pytest.approx(
        [3.13559, 1.92015, 1.63751, 1.35775, 1.24596, 1.10860, 1.04520, 0.96007, 0.91801], 1e-5
    )
    # 220 against 111: 12 planes of twice the intensity against 8.
    assert weight[1] / weight[0] == pytest.approx(3.0, rel=0.1)


def test_a_beam_without_neutrons_still_has_pulses() -> None:
    pulse = Generator(SimulatorSettings(events_per_s=0.0, monitor_events_per_s=0.0)).pulse(NUMBER)
    assert len(pulse.tof) == 0
    assert pulse.charge_10pc > 0
    assert pulse.bank_counts.tolist() == [0] * BANKS
