"""Process variables of a run: what is defined, what was logged, and how it is written."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import h5py
import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.devices import DeviceDescriptor, Value, VariableValue
from neutronflow.domain.adara.scalars import Scalars
from neutronflow.domain.adara.variables import Device, Enumeration, Variable, read_device
from neutronflow.instrument.translation import hdf5
from neutronflow.instrument.translation.clock import Clock
from neutronflow.instrument.translation.problems import Problems

#: What a name in a file cannot hold: HDF5's separator, the end of text, or nothing but a dot.
_UNSAFE_NAME = re.compile(r"[/\0]|^\.$")
_LONGEST_NAME = 255
#: A table of texts or arrays is as wide as its widest row; where it would become larger than this, rows are cut.
LARGEST_TABLE_BYTES = 1 << 28


@dataclass(slots=True)
class Log:
    """One process variable: its definition, and all values with their times (Unix ns) in order of arrival."""

    connection: str
    alias: str
    kind: str
    dtype: str
    units: str
    device_id: int
    device_name: str
    ignored: bool
    enumeration: Enumeration | None
    times_ns: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    others: list[Value] = field(default_factory=list)

    @property
    def definition(self) -> tuple[object, ...]:
        """What makes two definitions the same one."""
        return self.connection, self.kind, self.dtype, self.units

    def add(self, time_ns: int, value: Value) -> bool:
        """Keep a value; False for a repetition of the last (as every file boundary brings)."""
        numeric = self.kind in ("u32", "double")
        if self.times_ns and self.times_ns[-1] == time_ns:
            last = self.numbers[-1] if numeric else self.others[-1]
            if _same(last, value):
                return False
        self.times_ns.append(time_ns)
        if numeric:
            self.numbers.append(float(value))
        else:
            self.others.append(value.copy() if isinstance(value, np.ndarray) else value)
        return True

    def extend(self, times_ns: npt.NDArray[np.int64], numbers: npt.NDArray[np.float64]) -> None:
        """Keep numbers, shape (n,), as :meth:`add` would one after the other."""
        before_ns = np.concatenate([self.times_ns[-1:], times_ns[:-1]]).astype(np.int64)
        before = np.concatenate([self.numbers[-1:], numbers[:-1]])
        first = len(times_ns) - len(before_ns)  # 1 where this log was empty: the first number repeats nothing
        keep = np.ones(len(times_ns), np.bool_)
        alike = (before == numbers[first:]) | (np.isnan(before) & np.isnan(numbers[first:]))
        keep[first:] = ~((before_ns == times_ns[first:]) & alike)
        self.times_ns.frombytes(times_ns[keep].tobytes())
        self.numbers.frombytes(numbers[keep].tobytes())


class ProcessVariables:
    """All process variables of a run."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._by_id: dict[tuple[int, int], Log] = {}
        self._descriptors: dict[int, str] = {}
        self._logs: dict[str, Log] = {}

    def define(self, descriptor: DeviceDescriptor) -> None:
        """Take a device's definition; a repeated one changes nothing."""
        if self._descriptors.get(descriptor.device_id) == descriptor.xml:
            return
        self._descriptors[descriptor.device_id] = descriptor.xml
        try:
            device = read_device(descriptor)
        except ValueError as error:
            self._problems.count(f"the descriptor of device {descriptor.device_id} cannot be used: {error}")
            return
        for problem in device.unusable:
            self._problems.count(problem)
        for variable in device.variables:
            self._by_id[device.device_id, variable.variable_id] = self._merged(_log(device, variable))

    def log(self, time_ns: int, update: VariableValue) -> None:
        """Take a value."""
        found = self._by_id.get((update.device_id, update.variable_id))
        if found is None:
            self._problems.count(f"variable {update.variable_id} of device {update.device_id} is not defined")
        elif found.kind != update.kind:
            self._problems.count(f"{found.connection} is defined as {found.kind}, but a value is {update.kind}")
        else:
            found.add(time_ns, update.value)

    def log_scalars(self, values: Scalars) -> None:
        """Take many values that are single numbers."""
        for one in values.by_variable():
            device, variable = int(one.device_id[0]), int(one.variable_id[0])
            found = self._by_id.get((device, variable))
            kind = "double" if one.is_double[0] else "u32"
            if found is None:
                self._problems.count(f"variable {variable} of device {device} is not defined", len(one))
            elif found.kind != kind:
                self._problems.count(f"{found.connection} is defined as {found.kind}, but a value is {kind}", len(one))
            else:
                found.extend(one.time_ns, one.value)

    def write(self, parent: h5py.Group, clock: Clock) -> None:
        """Write all that have values."""
        shown = [log for log in self._logs.values() if log.times_ns and not log.ignored]
        writer = _LogWriter(parent, clock, self._problems)
        groups = [writer.write(log) for log in shown]
        # Aliases come last, so that none takes the name of another variable's connection.
        for log, group in zip(shown, groups, strict=True):
            if log.alias != log.connection:
                parent[_free_name(parent, log.alias)] = group
                hdf5.put_text(group, "target", group.name)

    def _merged(self, log: Log) -> Log:
        """The log of this connection: an earlier one with the same definition, or a new one under a free name."""
        name, count = log.connection, 0
        while (known := self._logs.setdefault(log.connection, log)).definition != log.definition:
            count += 1
            log.connection = f"{name}({count})"
        return known


def statistics(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Average, its error (sample standard deviation; 0 for one value), minimum and maximum; ``values`` are not empty.

    Value by value, in order, so that the result is the same to the last bit as in the files of the translator in use today.
    """
    mean = squares = 0.0
    for count, value in enumerate(values.tolist(), 1):
        step = value - mean
        mean += step / count
        squares += step * (value - mean)
    return {
        "average_value": mean,
        "average_value_error": math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0,
        "minimum_value": float(values.min()),
        "maximum_value": float(values.max()),
    }


def put_statistics(group: h5py.Group, values: npt.NDArray[np.float64], units: str) -> None:
    """Write the statistics of a log."""
    attributes = {"units": units} if units else None
    for name, number in statistics(values).items():
        hdf5.put_scalar(group, name, np.float64(number), attributes)


class _LogWriter:
    """Writes logs below DASlogs, and the enumerations they share."""

    def __init__(self, parent: h5py.Group, clock: Clock, problems: Problems) -> None:
        self._parent = parent
        self._clock = clock
        self._problems = problems
        self._enumerations: dict[str, h5py.Group] = {}

    def write(self, log: Log) -> h5py.Group:
        """Write one log; its group."""
        group = hdf5.make_group(self._parent, _free_name(self._parent, log.connection), "NXlog")
        hdf5.put_scalar(group, "device_id", np.uint32(log.device_id))
        hdf5.put_text(group, "device_name", log.device_name)
        times_ns = np.frombuffer(log.times_ns, np.int64)
        keep, seconds = self._clock.since_start(times_ns)
        hdf5.put_column(group, "time", "f8", seconds, self._clock.attributes())
        # The translator in use today counts a value from before the run only when the run ends, after all others.
        first_is_last = bool(times_ns[keep][0] < self._clock.start_ns)
        if log.kind in ("u32", "double"):
            numbers = np.frombuffer(log.numbers, np.float64)[keep]
            _put_numbers(group, log, numbers, first_is_last=first_is_last)
            if log.enumeration is not None:
                self._put_enumeration(group, log.enumeration, numbers)
        else:
            self._put_others(group, log, [log.others[i] for i in np.flatnonzero(keep)], first_is_last=first_is_last)
        return group

    def _put_others(self, group: h5py.Group, log: Log, values: Sequence[Value], *, first_is_last: bool) -> None:
        if log.kind == "string":
            self._put_texts(group, "value", [str(value) for value in values])
            return
        rows = [np.asarray(value) for value in values]
        width = self._width(group, max([1, *map(len, rows)]), len(rows), np.dtype(log.dtype).itemsize)
        table = np.zeros((len(rows), width), log.dtype)
        for row, value in zip(table, rows, strict=True):
            row[: len(value)] = value[:width]
        hdf5.put_array(group, "value", table, _units(log))
        elements = np.concatenate([*rows[1:], rows[0]] if first_is_last else rows).astype(np.float64)
        if len(elements):
            put_statistics(group, elements, log.units)

    def _put_enumeration(self, group: h5py.Group, enumeration: Enumeration, numbers: npt.NDArray[np.float64]) -> None:
        made = self._enumerations.get(enumeration.path_name)
        if made is None:
            made = self._make_enumeration(enumeration)
            self._enumerations[enumeration.path_name] = made
        group["enum"] = made
        names = dict(zip(enumeration.values, enumeration.names, strict=True))
        self._put_texts(group, "value_strings", [names.get(int(number), "") for number in numbers])

    def _make_enumeration(self, enumeration: Enumeration) -> h5py.Group:
        made = hdf5.make_group(self._parent, _free_name(self._parent, enumeration.path_name), "NXcollection")
        hdf5.put_column(made, "values", "u4", np.array(enumeration.values, np.uint32))
        self._put_texts(made, "names", enumeration.names)
        for value, name in zip(enumeration.values, enumeration.names, strict=True):
            hdf5.put_text(made, f"name_{value}", name)
        hdf5.put_text(made, "target", made.name)
        return made

    def _put_texts(self, group: h5py.Group, name: str, texts: Sequence[str]) -> None:
        width = self._width(group, max([1, *map(len, texts)]), len(texts), 1)
        hdf5.put_texts(group, name, [text[:width] for text in texts])

    def _width(self, group: h5py.Group, widest: int, rows: int, item_bytes: int) -> int:
        """How wide a table is made."""
        most = max(1, LARGEST_TABLE_BYTES // (max(1, rows) * item_bytes))
        if widest > most:
            self._problems.count(f"values of {group.name} are cut to {most} elements")
        return min(widest, most)


def _put_numbers(group: h5py.Group, log: Log, numbers: npt.NDArray[np.float64], *, first_is_last: bool) -> None:
    if log.dtype == "i4":
        # u32 patterns become signed by wrapping; a cast of the float would be undefined beyond the range.
        values = numbers.astype(np.uint32).view(np.int32)
        numbers = values.astype(np.float64)
    else:
        values = numbers.astype(log.dtype)
    hdf5.put_column(group, "value", log.dtype, values, _units(log))
    put_statistics(group, np.roll(numbers, -1) if first_is_last else numbers, log.units)


def _same(last: Value, value: Value) -> bool:
    """Whether a value is a repetition, bit for bit: not-a-number is one of itself."""
    if isinstance(last, np.ndarray) and isinstance(value, np.ndarray):
        return last.tobytes() == value.tobytes()
    return last == value or (last != last and value != value)  # noqa: PLR0124 - true of not-a-number alone


def _units(log: Log) -> dict[str, str] | None:
    return {"units": log.units} if log.units else None


def _free_name(parent: h5py.Group, wanted: str) -> str:
    """A name that HDF5 can have and that nothing has yet: ``wanted``, or ``wanted(1)``, ``wanted(2)``, ..."""
    first = name = _UNSAFE_NAME.sub("_", wanted)[:_LONGEST_NAME]
    count = 0
    while name in parent:
        count += 1
        name = f"{first}({count})"
    return name


def _log(device: Device, variable: Variable) -> Log:
    """An empty log of a variable."""
    return Log(
        connection=variable.connection,
        alias=variable.alias,
        kind=variable.kind,
        dtype=variable.dtype,
        units=variable.units,
        device_id=device.device_id,
        device_name=device.name,
        ignored=variable.ignored,
        enumeration=variable.enumeration,
    )
