"""``neutronflow bench``: finding benchmarks, and what their results have to hold."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

import neutronflow
from neutronflow.stack import bench
from neutronflow.stack.bench import BadResult, NoBenchmarks, UnknownBenchmark
from neutronflow.stack.benchnames import UnnamedBenchmark, unit_of

GOOD = {
    "name": "adara-parse.large", "value": 2.0, "unit": "GB/s", "higher_is_better": True, "duration_s": 1.0, "n": 3,
    "reference": {"name": "memcpy", "value": 4.0}, "ratio": 0.5,
}  # fmt: skip

MODULE = f"""
def measured():
    return {GOOD!r}
BENCHMARKS = {{"adara-parse.large": measured}}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one benchmark."""
    monkeypatch.setattr(neutronflow, "__file__", str(tmp_path / "src" / "neutronflow" / "__init__.py"))
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "adara_parse.py").write_text(MODULE)
    (tmp_path / "benchmarks" / "_support.py").write_text("raise RuntimeError('no benchmark')")
    return tmp_path


def run(*names: str, as_json: bool = False, only_list: bool = False) -> int:
    return bench.run(argparse.Namespace(names=list(names), json=as_json, list=only_list))


@pytest.mark.usefixtures("checkout")
def test_a_result_is_one_json_line_with_everything_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(as_json=True) == 0
    result = json.loads(capsys.readouterr().out)
    assert {key: result[key] for key in GOOD} == GOOD
    assert "GiB" in result["machine"]


@pytest.mark.usefixtures("checkout")
def test_for_people_it_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("adara-parse.large") == 0
    assert capsys.readouterr().out.split() == ["adara-parse.large", "2", "GB/s", "(0.50", "of", "memcpy,", "4)"]


@pytest.mark.usefixtures("checkout")
def test_a_benchmark_that_does_not_exist_is_an_error_before_any_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownBenchmark, match=r"'stream.raw'. There are: adara-parse.large"):
        run("adara-parse.large", "stream.raw")
    assert capsys.readouterr().out == ""


def test_outside_of_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neutronflow, "__file__", str(tmp_path / "lib" / "neutronflow" / "__init__.py"))
    with pytest.raises(NoBenchmarks, match="checkout"):
        run()


@pytest.mark.parametrize(
    "change",
    [{"unit": "MB/s"}, {"name": "adara-parse.tiny"}, {"value": "fast"}, {"ratio": 0.7}, {"n": None}, {"extra": 1},
     {"value": float("nan")}, {"reference": None}],
)  # fmt: skip
def test_a_result_that_lacks_something_or_is_in_another_unit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadResult, match="adara-parse"):
        bench.check("adara-parse.large", {**GOOD, **change})


def test_a_result_without_reference_has_no_ratio() -> None:
    assert bench.check("adara-parse.large", {**GOOD, "reference": None, "ratio": None}).reference is None


def test_every_name_has_its_unit() -> None:
    assert unit_of("page.run") == "ms"
    assert unit_of("agent.jobs") == "jobs/s"
    with pytest.raises(UnnamedBenchmark):
        unit_of("agent.jbos")


def test_the_benchmarks_of_this_checkout_have_names_with_units() -> None:
    for name in bench.discover():
        unit_of(name)
