from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.instrument.simulator.layout import BANKS, PIXELS, definition, pixel_map, pixels, prepare


def test_the_pixel_map_names_every_pixel_once_and_agrees_with_the_events() -> None:
    physical, logical, banks = [], [], []
    for line in pixel_map().splitlines():
        if line.startswith("#"):
            continue
        first, second, bank = line.split()
        for text, into in ((first, physical), (second, logical)):
            start, stop, step = map(int, text.split(":"))
            into.extend(range(start, stop + 1, step))
        banks.append(int(bank))
    assert banks == list(range(1, BANKS + 1))
    assert logical == list(range(PIXELS))
    assert physical == pixels().physical.tolist()
    assert PIXELS >= 20_000


def test_the_definition_is_small_and_names_the_beamline() -> None:
    text = definition(BeamlineSettings(short_name="XYZ"))
    assert len(text) < 65_536
    root = ET.fromstring(text)
    assert root.get("name") == "XYZ"
    assert text.count('mark-as="monitor"') == 1


def test_scattering_angles_are_those_of_a_powder_diffractometer() -> None:
    angle = 2 * np.degrees(np.arcsin(pixels().sin_theta))
    assert angle.min() == pytest.approx(22.3, abs=0.1)
    assert angle.max() < 150


def test_files_are_written_only_where_they_differ(tmp_path: Path) -> None:
    folder = tmp_path / "beamline"
    beamline = BeamlineSettings()
    assert [path.name for path in prepare(folder, beamline)] == ["geometry.xml", "pixelmap"]
    assert prepare(folder, beamline) == []
    (folder / "pixelmap").write_text("old")
    assert [path.name for path in prepare(folder, beamline)] == ["pixelmap"]
    assert (folder / "pixelmap").read_text() == pixel_map()
    assert sorted(path.name for path in folder.iterdir()) == ["geometry.xml", "pixelmap"]
