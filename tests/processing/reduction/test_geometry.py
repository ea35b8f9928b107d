from __future__ import annotations

import h5py
import numpy as np
import pytest

from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.instrument.simulator.layout import BANK_PIXELS, definition, pixels
from neutronflow.processing.reduction.geometry import BadDefinition, read_definition
from tests.support.recorded import SMALL_RUN

SMALL = """<instrument xmlns="http://www.mantidproject.org/IDF/1.0" name="X">
  <component type="moderator"><location z="-10"/></component> <type name="moderator" is="Source"/>
  <component type="sample"><location/></component> <type name="sample" is="SamplePos"/>
  {parts}
  <type name="pixel" is="detector"/>
</instrument>"""


def small(parts: str) -> str:
    return SMALL.format(parts=parts)


def test_the_simulated_diffractometer_is_where_its_simulator_has_it() -> None:
    geometry = read_definition(definition(BeamlineSettings()))
    expected = pixels()
    assert geometry.pixel_ids.tolist() == list(range(len(expected.path_m)))
    assert np.allclose(geometry.l1 + geometry.l2, expected.path_m, rtol=0, atol=1e-9)
    assert np.allclose(np.sin(geometry.two_theta / 2), expected.sin_theta, rtol=0, atol=1e-9)
    # The second panel is on the other side of the beam.
    assert geometry.positions[0, 0] > 0 > geometry.positions[BANK_PIXELS, 0]


def test_the_recorded_instrument_follows_its_motors() -> None:
    with h5py.File(SMALL_RUN) as file:
        xml = file["entry/instrument/instrument_xml/data"][0].decode()
    geometry = read_definition(xml, {"s2": 33.0, "msd": 1000.0}.get)
    assert len(geometry.pixel_ids) == 20_480
    assert geometry.source[2] == pytest.approx(-39.98)
    # The middle of the tank stands at the angle s2.
    in_plane = np.degrees(np.arctan2(geometry.positions[:, 0], geometry.positions[:, 2]))
    assert in_plane.mean() == pytest.approx(33.0, abs=0.1)
    assert geometry.l2.min() == pytest.approx(4.5, abs=0.1)
    with pytest.raises(BadDefinition, match="'msd', of which there is no value"):
        read_definition(xml)


def test_ids_are_taken_in_order_through_nested_components() -> None:
    xml = small("""
      <component type="tubes" idlist="all"><location x="1"/></component>
      <type name="tubes"><component type="tube"><location z="1"/><location z="2"/></component></type>
      <type name="tube"><component type="pixel"><locations y="0" y-end="0.2" n-elements="3"/></component></type>
      <idlist idname="all"><id start="10" end="12"/><id val="5"/><id start="24" end="20" step="-2"/></idlist>""")
    # 24, 22, 20 would be one id too many; they are just not used up.
    geometry = read_definition(xml)
    assert geometry.pixel_ids.tolist() == [5, 10, 11, 12, 22, 24]
    assert geometry.positions[geometry.pixel_ids == 12].tolist() == [[1.0, 0.2, 1.0]]
    assert geometry.positions[geometry.pixel_ids == 22].tolist() == [[1.0, 0.2, 2.0]]


def test_a_turned_grid_is_filled_as_its_component_says() -> None:
    grid = (
        '<type name="grid" is="RectangularDetector" xpixels="2" xstart="0" xstep="1" ypixels="3" ystart="0" ystep="1"/>'
    )
    where = '<location z="5" rot="90" axis-x="0" axis-y="1" axis-z="0"/>'
    by_column = small(
        f'<component type="grid" idstart="0" idfillbyfirst="y" idstepbyrow="10">{where}</component>{grid}'
    )
    geometry = read_definition(by_column)
    assert geometry.pixel_ids.tolist() == [0, 1, 2, 10, 11, 12]
    # A quarter turn about y takes x to -z.
    assert np.allclose(geometry.positions[-1], [0, 2, 4])
    by_row = small(f'<component type="grid" idstart="100" idfillbyfirst="x" idstepbyrow="2">{where}</component>{grid}')
    geometry = read_definition(by_row)
    assert geometry.pixel_ids.tolist() == [100, 101, 102, 103, 104, 105]
    assert np.allclose(geometry.positions[1], [0, 0, 4])


def test_spherical_locations_and_angles() -> None:
    xml = small("""<component type="pixel" idlist="one"><location r="2" t="90" p="90"/></component>
      <idlist idname="one"><id val="3"/></idlist>""")
    geometry = read_definition(xml)
    assert np.allclose(geometry.positions, [[0, 2, 0]])
    assert geometry.l1 + geometry.l2[0] == pytest.approx(12)
    assert np.degrees(geometry.two_theta[0]) == pytest.approx(90)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("", "no detector pixels"),
        ("<unclosed>", "no XML"),
        ('<component type="pixel"><location/></component>', "a detector has no id"),
        ('<component type="a"><location/></component><type name="a"><component type="a"><location/></component></type>',
         "nested too deep"),
        ('<component type="pixel" idlist="none"><location/></component>', "none"),
        ('<component type="pixel" idlist="l"><location/><location x="1"/></component>'
         '<idlist idname="l"><id val="1"/><id val="1"/></idlist>', "an id for two pixels"),
        ('<component type="pixel" idlist="l"><location/></component><idlist idname="l"><id val="4000000000"/></idlist>',
         "pixel ids that are not"),
        ('<component type="pixel" idlist="l"><location x="wide"/></component><idlist idname="l"><id val="1"/></idlist>',
         "wide"),
        ('<component type="pixel" idlist="l"><location><parameter name="x"><logfile id="m" '
         """eq="__import__('os').getpid()"/></parameter></location></component><idlist idname="l"><id val="1"/></idlist>""",
         "no expression of 'value'"),
        ('<component type="g"><location/></component>'
         '<type name="g" is="rectangular_detector" xpixels="99999999" ypixels="99999999"/>', "a grid of"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(parts: str, said: str) -> None:
    with pytest.raises(BadDefinition, match=said):
        read_definition(small(parts), lambda _name: 1.0)


def test_a_definition_without_source_is_refused() -> None:
    with pytest.raises(BadDefinition, match="no source"):
        read_definition("<instrument/>")
