from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.domain.adara.packets import DeviceDescriptor, encode
from neutronflow.instrument.translation import logs as module
from neutronflow.instrument.translation.assembler import Assembler, Translated
from neutronflow.instrument.translation.logs import statistics
from neutronflow.instrument.translation.problems import MOST_KINDS, Problems
from tests.support.runs import START_S, device, pulse, run, value

PULSE = pulse(0, {1: [(1, 1)]})


def translate(folder: Path, *middle: bytes) -> tuple[Translated, h5py.Group]:
    assembler = Assembler(folder / "run.nxs.h5")
    assembler.feed(run(PULSE, *middle))
    done = assembler.finish()
    return done, h5py.File(folder / "run.nxs.h5")["entry/DASlogs"]


@pytest.mark.parametrize(
    ("connection", "alias", "found_as"),
    [
        ("frequency", "frequency", "frequency(1)"),
        ("proton_charge", "x", "proton_charge(1)"),
        ("a/b/../c", "x", "a_b_.._c"),
        (".", "x", "_"),
        ("..", "x", ".."),
        ("n" * 5000, "x", "n" * 255),
        ("Temp °C", "x", "Temp °C"),
        ("&lt;script&gt;", "x", "<script>"),
    ],
)
def test_any_name_becomes_one_group_below_the_logs(tmp_path: Path, connection: str, alias: str, found_as: str) -> None:
    described = device(50, [(connection, alias, "integer")])
    done, group = translate(tmp_path, described, value(50, 1, "u32", 7))
    with group.file:
        assert group[found_as]["value"][()].tolist() == [7]
        assert not done.problems


def test_names_that_become_the_same_are_told_apart(tmp_path: Path) -> None:
    described = device(50, [("a/b", "s", "integer"), ("a_b", "s", "integer"), ("s", "", "integer")])
    values = (value(50, number, "u32", number) for number in (1, 2, 3))
    _, group = translate(tmp_path, described, *values)
    with group.file:
        found = {name: int(group[name]["value"][0]) for name in ("a_b", "a_b(1)", "s", "s(1)", "s(2)")}
    assert found == {"a_b": 1, "a_b(1)": 2, "s": 3, "s(1)": 1, "s(2)": 2}


def test_one_connection_with_two_definitions_is_two_logs_and_with_one_is_one(tmp_path: Path) -> None:
    first = device(50, [("pv", "", "integer")])
    second = device(51, [("pv", "", "double")])
    third = device(52, [("pv", "", "integer")])
    values = (value(50, 1, "u32", 1), value(51, 1, "double", 2.5), value(52, 1, "u32", 3, 1))
    _, group = translate(tmp_path, first, second, third, *values)
    with group.file:
        assert group["pv/value"][()].tolist() == [1, 3]
        assert group["pv(1)/value"][()].tolist() == [2.5]


def test_an_integer_keeps_its_sign_and_its_bits(tmp_path: Path) -> None:
    described = device(50, [("i", "", "integer"), ("u", "", "unsigned")])
    _, group = translate(tmp_path, described, value(50, 1, "u32", 0xFFFFFFFF), value(50, 2, "u32", 0xFFFFFFFF))
    with group.file:
        assert group["i/value"][()].tolist() == [-1]
        assert group["i/minimum_value"][0] == -1
        assert group["u/value"][()].tolist() == [0xFFFFFFFF]


def test_the_same_value_at_the_same_time_is_one_value_though_it_is_not_a_number(tmp_path: Path) -> None:
    described = device(50, [("d", "", "double"), ("a", "", "double array"), ("s", "", "string")])
    waveform = np.array([1.0, np.nan])
    values = [value(50, 1, "double", float("nan")), value(50, 2, "double array", waveform), value(50, 3, "string", "x")]
    _, group = translate(tmp_path, described, *values, *values, value(50, 1, "double", 1.0))
    with group.file:
        assert len(group["d/value"]) == 2
        assert group["a/value"].shape == (1, 2)
        assert group["s/value"].shape == (1, 1)


def test_of_values_older_than_the_run_the_newest_holds_and_stands_at_its_beginning(tmp_path: Path) -> None:
    described = device(50, [("d", "", "double")])
    early = [value(50, 1, "double", what, number) for number, what in ((-30, 1.0), (-20, 2.0))]
    assembler = Assembler(tmp_path / "run.nxs.h5")
    assembler.feed(run(described, *early, PULSE, value(50, 1, "double", 4.0, 60)))
    assembler.finish()
    with h5py.File(tmp_path / "run.nxs.h5") as file:
        assert file["entry/DASlogs/d/value"][()].tolist() == [2.0, 4.0]
        assert file["entry/DASlogs/d/time"][()].tolist() == pytest.approx([0.0, 1.0])
        assert file["entry/DASlogs/d/average_value"][0] == 3.0


def test_values_that_nothing_defines_or_of_another_kind_are_named(tmp_path: Path) -> None:
    described = device(50, [("d", "", "double"), ("odd", "", "two-tuple")])
    done, group = translate(tmp_path, described, value(50, 9, "u32", 1), value(50, 1, "u32", 1), value(60, 1, "u32", 1))
    group.file.close()
    assert done.problems == {
        "device 50 defines a variable that cannot be used ('odd', type 'two-tuple')": 1,
        "variable 9 of device 50 is not defined": 1,
        "d is defined as double, but a value is u32": 1,
        "variable 1 of device 60 is not defined": 1,
    }


def test_a_descriptor_that_is_no_xml_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    broken = device(50, [("<", "", "double")])
    bomb = encode(DeviceDescriptor(51, "<!DOCTYPE device [<!ENTITY a 'b'>]><device>&a;</device>"), START_S, 0)
    done, group = translate(tmp_path, broken, bomb)
    group.file.close()
    assert done.events == 1
    assert len(done.problems) == 2
    assert all("cannot be used" in problem for problem in done.problems)


def test_enumerations_with_odd_elements_are_written_as_far_as_they_make_sense(tmp_path: Path) -> None:
    elements = [("0", "Off"), ("1", "On"), ("1", "Again"), ("-1", "x"), ("²", "x"), ("99999999999", "x"), ("", "x")]
    xml = "<enumerations><enumeration><enum_name>enum_01</enum_name>"
    for number, name in elements:
        xml += (
            f"<enum_element><enum_element_name>{name}</enum_element_name>"
            f"<enum_element_value>{number}</enum_element_value></enum_element>"
        )
    described = device(50, [("e", "", "enum_01")], xml + "</enumeration></enumerations>")
    _, group = translate(tmp_path, described, value(50, 1, "u32", 1), value(50, 1, "u32", 5, 1))
    with group.file:
        assert group["e/enum/values"][()].tolist() == [0, 1]
        assert group["e/enum/names"][()].tolist() == [[b"Off"], [b"On "]]
        assert group["e/value_strings"][()].tolist() == [[b"On"], [b"  "]]
        assert group["e/enum"] == group["Device50:Enum:enum_01"]


def test_a_variable_marked_to_be_ignored_is_not_written(tmp_path: Path) -> None:
    marked = device(50, [("quiet", "", "integer</pv_type><pv_ignore>1</pv_ignore><pv_type>integer")])
    _, group = translate(tmp_path, marked, value(50, 1, "u32", 1))
    with group.file:
        assert "quiet" not in group


def test_a_table_that_would_become_huge_is_cut_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_TABLE_BYTES", 1000)
    described = device(50, [("s", "", "string"), ("a", "", "integer array")])
    values = [value(50, 1, "string", "x" * 800, 0), value(50, 1, "string", "short", 1)]
    arrays = [value(50, 2, "u32 array", np.arange(n, dtype=np.uint32), n) for n in (200, 3)]
    done, group = translate(tmp_path, described, *values, *arrays)
    with group.file:
        assert group["s/value"].dtype == "S500"
        assert group["a/value"].shape == (2, 125)
    assert done.problems == {
        "values of /entry/DASlogs/s are cut to 500 elements": 1,
        "values of /entry/DASlogs/a are cut to 125 elements": 1,
    }


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_statistics_are_those_of_the_values(count: int) -> None:
    values = np.random.default_rng(count).normal(1e6, 1.0, count)
    found = statistics(values)
    assert found["average_value"] == pytest.approx(values.mean(), rel=1e-14)
    assert found["average_value_error"] == pytest.approx(values.std(ddof=1) if count > 1 else 0.0, rel=1e-9)
    assert (found["minimum_value"], found["maximum_value"]) == (values.min(), values.max())


def test_problems_of_a_hopeless_stream_stay_few() -> None:
    problems = Problems()
    for number in range(10 * MOST_KINDS):
        problems.count(f"problem {number}")
    assert len(problems.as_dict()) == MOST_KINDS + 1
    assert problems.as_dict()["problems of further kinds"] == 9 * MOST_KINDS
