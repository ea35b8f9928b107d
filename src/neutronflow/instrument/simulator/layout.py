"""The instrument: where its pixels are, how they are numbered, and how that is told to others.

Twenty flat panels of 32 x 32 pixels stand around the sample, from 25° to 146° of scattering angle, on both sides of the
beam in turn. The flight path is much shorter than that of the real POWGEN: so the whole pattern fits between two pulses.
Logical pixel ids count through panel after panel, upwards in each column; each panel's electronics has 2048 addresses, of
which it uses the first 1024.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from neutronflow.domain.beamline import BeamlineSettings

BANKS: Final = 20
SIDE: Final = 32
BANK_PIXELS: Final = SIDE * SIDE
PIXELS: Final = BANKS * BANK_PIXELS
#: Addresses of one panel's electronics.
_BANK_ADDRESSES: Final = 2048
L1_M: Final = 6.0
_L2_M: Final = 2.0
_FIRST_ANGLE: Final = 25.0
_ANGLE_STEP: Final = 6.35
_WIDTH_M: Final = 0.006
_HEIGHT_M: Final = 0.012

#: Beam monitor -> where it stands along the beam, in m from the sample.
MONITORS: Final = {1: -2.0, 2: -0.5}
GEOMETRY_FILE: Final = "geometry.xml"
PIXEL_MAP_FILE: Final = "pixelmap"


@dataclass(frozen=True, slots=True)
class Pixels:
    """Every pixel in the order of logical ids, arrays of shape (:data:`PIXELS`,)."""

    physical: npt.NDArray[np.uint32]
    #: Whole flight path from moderator to pixel, in m.
    path_m: npt.NDArray[np.float64]
    #: Sine of half the scattering angle.
    sin_theta: npt.NDArray[np.float64]
    #: Solid angle, relative.
    solid_angle: npt.NDArray[np.float64]


def pixels() -> Pixels:
    """The geometry as numbers."""
    x = np.repeat(_offsets(_WIDTH_M), SIDE)
    y = np.tile(_offsets(_HEIGHT_M), SIDE)
    angle = np.radians([_angle(bank) for bank in range(1, BANKS + 1)])[:, None]
    # A panel is turned about the vertical axis, so that it faces the sample.
    across = x * np.cos(angle) + _L2_M * np.sin(angle)
    along = -x * np.sin(angle) + _L2_M * np.cos(angle)
    distance = np.sqrt(across**2 + y**2 + along**2)
    bank, within = np.divmod(np.arange(PIXELS, dtype=np.uint32), np.uint32(BANK_PIXELS))
    return Pixels(
        physical=bank * np.uint32(_BANK_ADDRESSES) + within,
        path_m=(L1_M + distance).ravel(),
        sin_theta=np.sqrt((1.0 - along / distance) / 2.0).ravel(),
        solid_angle=(_L2_M / distance**3).ravel(),
    )


def pixel_map() -> str:
    """The pixel map as the stream service reads it: ``physical logical bank``, ranges as ``start:stop:step``."""
    lines = ["# Simulated powder diffractometer: physical id, logical id, bank"]
    for bank in range(1, BANKS + 1):
        physical, logical = (bank - 1) * _BANK_ADDRESSES, (bank - 1) * BANK_PIXELS
        last = BANK_PIXELS - 1
        lines.append(f"{physical}:{physical + last}:1 {logical}:{logical + last}:1 {bank}")
    return "\n".join(lines) + "\n"


def definition(beamline: BeamlineSettings) -> str:
    """The instrument definition, in the XML that Mantid reads."""
    panels = "\n".join(_panel(bank) for bank in range(1, BANKS + 1))
    monitors = "\n".join(f'      <location name="monitor{number}" z="{z}"/>' for number, z in MONITORS.items())
    monitor_ids = "\n".join(f'    <id val="{-number}"/>' for number in MONITORS)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<instrument xmlns="http://www.mantidproject.org/IDF/1.0" name="{beamline.short_name}"
    valid-from="2020-01-01 00:00:00" valid-to="2100-01-31 23:59:59" last-modified="2026-01-01 00:00:00">
  <!-- Simulated powder diffractometer of Neutronflow. It is not the geometry of the real instrument. -->
  <defaults>
    <length unit="meter"/>
    <angle unit="degree"/>
    <reference-frame>
      <along-beam axis="z"/>
      <pointing-up axis="y"/>
      <handedness val="right"/>
    </reference-frame>
  </defaults>
  <component type="moderator">
    <location z="{-L1_M}"/>
  </component>
  <type name="moderator" is="Source"/>
  <component type="sample-position">
    <location x="0.0" y="0.0" z="0.0"/>
  </component>
  <type name="sample-position" is="SamplePos"/>
  <component type="monitors" idlist="monitors">
    <location/>
  </component>
  <type name="monitors">
    <component type="monitor" mark-as="monitor">
{monitors}
    </component>
  </type>
{panels}
  <type name="panel" is="rectangular_detector" type="pixel"
      xpixels="{SIDE}" xstart="{_offsets(_WIDTH_M)[0]:.4f}" xstep="{_WIDTH_M}"
      ypixels="{SIDE}" ystart="{_offsets(_HEIGHT_M)[0]:.4f}" ystep="{_HEIGHT_M}">
    <properties/>
  </type>
  <type name="pixel" is="detector">
    <cuboid id="pixel-shape">
{_corners(_WIDTH_M / 2, _HEIGHT_M / 2, 0.0005)}
    </cuboid>
    <algebra val="pixel-shape"/>
  </type>
  <type name="monitor" is="detector">
    <cuboid id="monitor-shape">
{_corners(0.025, 0.025, 0.005)}
    </cuboid>
    <algebra val="monitor-shape"/>
  </type>
  <idlist idname="monitors">
{monitor_ids}
  </idlist>
</instrument>
"""


def prepare(folder: Path, beamline: BeamlineSettings) -> list[Path]:
    """Write the beamline's files into ``folder`` where they are not there yet or differ; returns those written.

    Each appears whole: it is written beside its place, then renamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in ((GEOMETRY_FILE, definition(beamline)), (PIXEL_MAP_FILE, pixel_map())):
        target, data = folder / name, text.encode()
        if target.is_file() and target.read_bytes() == data:
            continue
        partial = target.with_name(f".{name}.part")
        partial.write_bytes(data)
        partial.replace(target)
        written.append(target)
    return written


def _angle(bank: int) -> float:
    """Scattering angle of the middle of a panel, in degrees, negative on the other side of the beam."""
    return round(_FIRST_ANGLE + _ANGLE_STEP * (bank - 1), 4) * (1 if bank % 2 else -1)


def _offsets(step: float) -> npt.NDArray[np.float64]:
    """Where the pixels of a row or column are, in m from the middle."""
    return (np.arange(SIDE, dtype=np.float64) - (SIDE - 1) / 2) * step


def _panel(bank: int) -> str:
    angle = np.radians(_angle(bank))
    return (
        f'  <component type="panel" idstart="{(bank - 1) * BANK_PIXELS}" idfillbyfirst="y" idstepbyrow="{SIDE}">\n'
        f'    <location name="bank{bank}" x="{_L2_M * np.sin(angle):.12f}" y="0.0" z="{_L2_M * np.cos(angle):.12f}"'
        f' rot="{_angle(bank)}" axis-x="0" axis-y="1" axis-z="0"/>\n'
        f"  </component>"
    )


def _corners(x: float, y: float, z: float) -> str:
    """A cuboid by the four corners that Mantid asks for, from its half edges in m."""
    corners = {
        "left-front-bottom-point": (-x, -y, -z),
        "left-front-top-point": (-x, y, -z),
        "left-back-bottom-point": (-x, -y, z),
        "right-front-bottom-point": (x, -y, -z),
    }
    return "\n".join(f'      <{name} x="{a}" y="{b}" z="{c}"/>' for name, (a, b, c) in corners.items())
