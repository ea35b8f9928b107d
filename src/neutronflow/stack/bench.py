"""``neutronflow bench``: runs the benchmarks of a checkout; each result is one JSON line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

import neutronflow
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import configure_logging
from neutronflow.stack.benchnames import unit_of

#: A benchmark measures and gives back everything of its result but ``machine``.
Benchmark = Callable[[], Mapping[str, Any]]


class NoBenchmarks(NeutronflowError):
    """There are no benchmarks here: they come with a checkout (looked for {path}), not with an installed package."""

    code = "no-benchmarks"


class UnknownBenchmark(NeutronflowError):
    """There is no benchmark '{name}'. There are: {known}."""

    code = "unknown-benchmark"


class BadResult(NeutronflowError):
    """The benchmark '{name}' gave a result that cannot be used: {detail}."""

    code = "bad-result"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What the result stands beside: the raw limit, or a rival doing the same work in the same run."""

    name: str
    value: float


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One result. ``ratio`` is value / reference value."""

    name: str
    value: float
    unit: str
    higher_is_better: bool
    duration_s: float
    n: int
    reference: Reference | None
    ratio: float | None
    machine: str


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks (default: all there are)")
    parser.add_argument("--json", action="store_true", help="one JSON line a result, and nothing else")
    parser.add_argument("--list", action="store_true", help="only name them")


def run(args: argparse.Namespace) -> int:
    """Run them one after the other."""
    configure_logging("bench", level="warning")  # to standard error: the results have standard output for themselves
    known = discover()
    names = args.names or sorted(known)
    for name in names:
        if name not in known:
            raise UnknownBenchmark(name=name, known=", ".join(sorted(known)))
    if args.list:
        print("\n".join(sorted(known)))
        return 0
    for name in names:
        result = check(name, known[name]())
        line = json.dumps(msgspec.to_builtins(result))
        print(line if args.json else _readable(result), flush=True)
    return 0


def discover() -> dict[str, Benchmark]:
    """All benchmarks of the checkout this package runs from."""
    folder = Path(neutronflow.__file__).parents[2] / "benchmarks"
    if not folder.is_dir():
        raise NoBenchmarks(path=folder)
    sys.path.insert(0, str(folder.parent))
    known: dict[str, Benchmark] = {}
    for path in sorted(folder.glob("[!_]*.py")):
        spec = importlib.util.spec_from_file_location(f"benchmarks.{path.stem}", path)
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        known.update(module.BENCHMARKS)
    return known


def check(name: str, measured: Mapping[str, Any]) -> Result:
    """A result with everything in it, or :class:`BadResult`."""
    try:
        result = msgspec.convert({**measured, "machine": machine()}, Result)
    except msgspec.ValidationError as error:
        raise BadResult(name=name, detail=error) from error
    numbers = [result.value, result.duration_s, *([result.reference.value] if result.reference else [])]
    if not all(math.isfinite(number) for number in numbers):
        raise BadResult(name=name, detail="it holds what is no number")
    ratio = result.value / result.reference.value if result.reference and result.reference.value else None
    if (ratio is None) != (result.ratio is None) or not math.isclose(ratio or 0.0, result.ratio or 0.0, rel_tol=0.01):
        raise BadResult(name=name, detail=f"its ratio is {result.ratio}, not {ratio}")
    if result.name != name or result.unit != unit_of(name):
        raise BadResult(name=name, detail=f"it is called {result.name} in {result.unit}, not {name} in {unit_of(name)}")
    return result


def machine() -> str:
    """The machine in a few words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().split("\n"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Python {platform.python_version()}"


def _readable(result: Result) -> str:
    beside = ""
    if result.reference is not None:
        beside = f"  ({result.ratio:.2f} of {result.reference.name}, {result.reference.value:,.4g})"
    return f"{result.name:<28}{result.value:>12,.4g} {result.unit}{beside}"
