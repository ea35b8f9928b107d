"""What the detectors see of one pulse: a pure function of the seed and the pulse's number.

Pulses are numbered from the EPICS epoch (1990-01-01), sixty a second: so the number follows from a pulse's time, and what was
drawn for it can be drawn again from nothing but the seed and its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from neutronflow.instrument.simulator.lattice import silicon_peaks
from neutronflow.instrument.simulator.layout import BANK_PIXELS, BANKS, L1_M, MONITORS, Pixels, pixels
from neutronflow.instrument.simulator.settings import SimulatorSettings

PULSES_PER_S: Final = 60
#: Pulses count through cycles of so many. The first of each is one without beam, as the facility's generator has it.
CYCLES: Final = 600
FRAME_100NS: Final = 166_666
_NS: Final = 1_000_000_000
#: Time of flight in µs of a neutron of 1 Å over 1 m: the mass of the neutron by Planck's constant.
US_PER_M_ANGSTROM: Final = 252.7784
_D_MIN: Final = 0.5
#: Relative width (standard deviation) of a peak: of the moderator and flight path, and of the angle times cot θ.
_WIDTH: Final = 0.0012
_WIDTH_OF_ANGLE: Final = 0.0003
#: Wavelengths of the beam, in Å; the longest arrives before the frame ends.
_LAMBDA_MIN: Final = 0.2
_LAMBDA_MAX: Final = 7.6
_LAMBDA_THERMAL: Final = 2.0
#: What of a pulse is drawn, each from numbers of its own.
_EVENTS: Final = 0
_CHARGE: Final = 1

Words = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Pulse:
    """One pulse. TOF in 100 ns; ``pixel`` holds physical ids. Events have shape (events,), in the order of their TOF."""

    number: int
    charge_10pc: int
    tof: Words
    pixel: Words
    #: Detector events by bank, shape (banks,); bank 1 comes first.
    bank_counts: Counts
    #: TOF by beam monitor.
    monitors: dict[int, Words]


def pulse_ns(number: int) -> int:
    """When a pulse is, in ns since the EPICS epoch."""
    return number * _NS // PULSES_PER_S


def pulse_number(epics_ns: int) -> int:
    """The last pulse at or before a time in ns since the EPICS epoch."""
    number = epics_ns * PULSES_PER_S // _NS
    return number + 1 if pulse_ns(number + 1) <= epics_ns else number


def cycle(number: int) -> int:
    """The cycle of a pulse, 0 to 599."""
    return number % CYCLES


def pulse_id(number: int) -> int:
    """The pulse's identity on the wire: EPICS seconds << 32 | nanoseconds."""
    seconds, nanoseconds = divmod(pulse_ns(number), _NS)
    return (seconds << 32) | nanoseconds


class Generator:
    """Draws pulses."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._pixels = found = pixels()
        spacing, weight = silicon_peaks(_D_MIN)
        wavelength = 2.0 * spacing[:, None] * found.sin_theta
        # At a fixed angle: multiplicity, structure factor, the beam's spectrum, and d^4 sin θ of a powder.
        intensity = weight[:, None] * _spectrum(wavelength) * spacing[:, None] ** 4 * found.sin_theta
        intensity = np.where(wavelength < _LAMBDA_MAX, intensity * found.solid_angle, 0.0)
        #: By peak and pixel: which share of the diffracted neutrons comes before, and where they are in TOF.
        self._shares = _cumulated(intensity.ravel())
        self._peak_tof = (wavelength * found.path_m * (US_PER_M_ANGSTROM * 10.0)).ravel()
        self._width = np.hypot(_WIDTH, _WIDTH_OF_ANGLE * np.sqrt(1.0 / found.sin_theta**2 - 1.0))
        self._pixel_shares = _cumulated(found.solid_angle)
        self._wavelengths = np.linspace(_LAMBDA_MIN, _LAMBDA_MAX, 2000)
        self._wavelength_shares = _cumulated(_spectrum(self._wavelengths))

    @property
    def pixels(self) -> Pixels:
        """The pixels of the instrument."""
        return self._pixels

    def charge(self, number: int) -> int:
        """The proton charge of a pulse, in 10 pC."""
        if not cycle(number):
            return 0
        settings = self._settings
        spread = float(self._random(number, _CHARGE).standard_normal())
        # Within four standard deviations: it is never negative, and never too large for its 24 bits.
        return round(settings.charge_10pc * (1.0 + settings.charge_spread * min(max(spread, -4.0), 4.0)))

    def pulse(self, number: int) -> Pulse:
        """Draw a pulse."""
        settings, random, charge = self._settings, self._random(number, _EVENTS), self.charge(number)
        power = charge / settings.charge_10pc / PULSES_PER_S
        events = int(random.poisson(settings.events_per_s * power))
        scattered = int(random.binomial(events, settings.background))
        peaks, background = self._diffracted(random, events - scattered), self._incoherent(random, scattered)
        tof, logical = np.concatenate([peaks[0], background[0]]), np.concatenate([peaks[1], background[1]])
        in_order = np.argsort(tof)
        monitors = {
            monitor: self._monitored(random, L1_M + z, settings.monitor_events_per_s * power)
            for monitor, z in MONITORS.items()
        }
        return Pulse(
            number=number,
            charge_10pc=charge,
            tof=_as_ticks(tof[in_order]),
            pixel=self._pixels.physical[logical[in_order]],
            bank_counts=np.bincount(logical // BANK_PIXELS, minlength=BANKS).astype(np.uint32),
            monitors=monitors,
        )

    def _random(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self._settings.seed, counter=(number << 128) | (purpose << 64)))

    def _diffracted(
        self, random: np.random.Generator, count: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """TOF in 100 ns and logical pixel of neutrons that planes have reflected."""
        # Sorted, they are looked up several times as fast.
        found = np.searchsorted(self._shares, np.sort(random.random(count)), side="right")
        pixel = found % len(self._width)
        return self._peak_tof[found] * (1.0 + self._width[pixel] * random.standard_normal(count)), pixel

    def _incoherent(
        self, random: np.random.Generator, count: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """TOF in 100 ns and logical pixel of neutrons that were scattered anywhere, at any wavelength."""
        pixel = np.searchsorted(self._pixel_shares, np.sort(random.random(count)), side="right")
        wavelength = self._wavelength(random, count)
        return wavelength * self._pixels.path_m[pixel] * (US_PER_M_ANGSTROM * 10.0), pixel

    def _monitored(self, random: np.random.Generator, distance_m: float, mean: float) -> Words:
        """TOF in 100 ns of neutrons of the beam that a monitor has seen, in order."""
        wavelength = self._wavelength(random, int(random.poisson(mean)))
        return _as_ticks(np.sort(wavelength) * (distance_m * US_PER_M_ANGSTROM * 10.0))

    def _wavelength(self, random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        return np.interp(random.random(count), self._wavelength_shares, self._wavelengths)


def _spectrum(wavelength: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The beam's intensity over wavelength (Å), relative: moderated neutrons, and those that came out faster."""
    moderated = 2.0 * _LAMBDA_THERMAL**4 / wavelength**5 * np.exp(-((_LAMBDA_THERMAL / wavelength) ** 2))
    faster = 0.05 / wavelength / (1.0 + np.exp((wavelength - 0.7) / 0.1))
    both: npt.NDArray[np.float64] = moderated + faster
    return both


def _cumulated(weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total = np.cumsum(weight)
    shares: npt.NDArray[np.float64] = total / total[-1]
    return shares


def _as_ticks(tof_100ns: npt.NDArray[np.float64]) -> Words:
    return np.clip(np.rint(tof_100ns), 0, FRAME_100NS).astype(np.uint32)
