"""Process variables of a run: what is defined, what was logged, and how it is written."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import h5py
import numpy as np
import numpy.typing as npt

from neutronflow.domain.adara.devices import DeviceDescriptor, Value, VariableValue
from neutronflow.domain.adara.xml import parse_xml
from neutronflow.instrument.translation import hdf5
from neutronflow.instrument.translation.clock import Clock

Times = npt.NDArray[np.float64]

#: pv_type -> (wire kind, dtype in the file); enumerations are unsigned.
_TYPES = {
    "integer": ("u32", "i4"),
    "unsigned": ("u32", "u4"),
    "unsigned integer": ("u32", "u4"),
    "float": ("double", "f4"),
    "double": ("double", "f8"),
    "string": ("string", ""),
    "integer array": ("u32 array", "u4"),
    "double array": ("double array", "f8"),
}
_UNIT_UNSET = "(unset)"
#: What a name may hold in a file: HDF5's separator and a lone dot may not.
_UNSAFE_NAME = re.compile(r"[/\0]")


@dataclass(frozen=True, slots=True)
class Enumeration:
    """The names of an enumeration's values, and the device that defines it."""

    device_id: int
    name: str
    values: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def path_name(self) -> str:
        """Its name below DASlogs."""
        return f"Device{self.device_id}:Enum:{self.name}"


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
            if np.array_equal(last, value):
                return False
        self.times_ns.append(time_ns)
        if numeric:
            self.numbers.append(float(value))
        else:
            self.others.append(value.copy() if isinstance(value, np.ndarray) else value)
        return True


class ProcessVariables:
    """All process variables of a run."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[int, int], Log] = {}
        self._descriptors: dict[int, str] = {}
        self.logs: list[Log] = []
        #: What could not be used, in words, with how often.
        self.problems: dict[str, int] = {}

    def define(self, descriptor: DeviceDescriptor) -> None:
        """Take a device's definition; a repeated one changes nothing."""
        if self._descriptors.get(descriptor.device_id) == descriptor.xml:
            return
        self._descriptors[descriptor.device_id] = descriptor.xml
        try:
            device = parse_xml(descriptor.xml)
        except ValueError as error:
            self._complain(f"the descriptor of device {descriptor.device_id} cannot be used: {error}")
            return
        name = _text(device, "device_name") or f"Device{descriptor.device_id}"
        enumerations = {one.name: one for one in _enumerations(device, descriptor.device_id)}
        for variable in device.iter("process_variable"):
            self._define_variable(descriptor.device_id, name, variable, enumerations)

    def log(self, time_ns: int, update: VariableValue) -> None:
        """Take a value."""
        found = self._by_id.get((update.device_id, update.variable_id))
        if found is None:
            self._complain(f"variable {update.variable_id} of device {update.device_id} is not defined")
        elif found.kind != update.kind:
            self._complain(f"{found.connection} is defined as {found.kind}, but a value is {update.kind}")
        else:
            found.add(time_ns, update.value)

    def write(self, parent: h5py.Group, clock: Clock) -> None:
        """Write all that have values."""
        taken = {log.connection for log in self.logs}
        enumerations: dict[str, h5py.Group] = {}
        for log in self.logs:
            if log.times_ns and not log.ignored:
                _write_log(parent, log, clock, _free_alias(log, taken), enumerations)

    def _define_variable(self, device: int, device_name: str, variable: Element, enums: dict[str, Enumeration]) -> None:
        connection = _text(variable, "pv_connection") or _text(variable, "pv_name")
        kind_name = _text(variable, "pv_type").lower()
        enumeration = enums.get(kind_name)
        kind, dtype = ("u32", "u4") if kind_name.startswith("enum") else _TYPES.get(kind_name, ("", ""))
        number = _text(variable, "pv_id")
        if not connection or not number.isdigit() or not kind:
            self._complain(
                f"device {device} defines a variable that cannot be used ({connection!r}, type {kind_name!r})"
            )
            return
        units = _text(variable, "pv_units")
        log = Log(
            connection=connection,
            alias=_text(variable, "pv_name") or connection,
            kind=kind,
            dtype=dtype,
            units="" if units == _UNIT_UNSET else units,
            device_id=device,
            device_name=device_name,
            ignored=_text(variable, "pv_ignore") not in ("", "0"),
            enumeration=enumeration,
        )
        self._by_id[device, int(number)] = self._merged(log)

    def _merged(self, log: Log) -> Log:
        """The log of this connection: an earlier one with the same definition, or a new one under a free name."""
        count = 0
        name = log.connection
        while True:
            known = next((one for one in self.logs if one.connection == log.connection), None)
            if known is None:
                self.logs.append(log)
                return log
            if known.definition == log.definition:
                return known
            count += 1
            log.connection = f"{name}({count})"

    def _complain(self, problem: str) -> None:
        self.problems[problem] = self.problems.get(problem, 0) + 1


def statistics(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Average, its error (sample standard deviation; 0 for one value), minimum and maximum."""
    return {
        "average_value": float(values.mean()),
        "average_value_error": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "minimum_value": float(values.min()),
        "maximum_value": float(values.max()),
    }


def put_statistics(group: h5py.Group, values: npt.NDArray[np.float64], units: str) -> None:
    """Write the statistics of a log."""
    attributes = {"units": units} if units else None
    for name, number in statistics(values).items():
        hdf5.put_scalar(group, name, np.float64(number), attributes)


def _write_log(parent: h5py.Group, log: Log, clock: Clock, alias: str, enumerations: dict[str, h5py.Group]) -> None:
    group = hdf5.make_group(parent, _UNSAFE_NAME.sub("_", log.connection), "NXlog")
    hdf5.put_scalar(group, "device_id", np.uint32(log.device_id))
    hdf5.put_text(group, "device_name", log.device_name)
    keep, seconds = clock.since_start(np.frombuffer(log.times_ns, np.int64))
    _put_times(group, seconds, clock)
    units = {"units": log.units} if log.units else None
    if log.kind in ("u32", "double"):
        numbers = np.frombuffer(log.numbers, np.float64)[keep]
        column = hdf5.Column(group, "value", log.dtype, units)
        # u32 patterns become signed by wrapping; a cast of the float would be undefined beyond the range.
        column.append(numbers.astype(np.uint32).view(log.dtype) if log.dtype == "i4" else numbers.astype(log.dtype))
        column.close()
        shown = numbers.astype(np.uint32).view(np.int32).astype(np.float64) if log.dtype == "i4" else numbers
        put_statistics(group, shown, log.units)
    else:
        _put_others(group, log, [log.others[i] for i in np.flatnonzero(keep)])
    if log.enumeration is not None:
        _put_enumeration(parent, group, log, enumerations, np.frombuffer(log.numbers, np.float64)[keep])
    if alias:
        parent[alias] = group
        hdf5.put_text(group, "target", group.name)


def _put_times(group: h5py.Group, seconds: Times, clock: Clock) -> None:
    column = hdf5.Column(group, "time", "f8", clock.attributes())
    column.append(seconds)
    column.close()


def _put_others(group: h5py.Group, log: Log, values: Sequence[Value]) -> None:
    units = {"units": log.units} if log.units else None
    if log.kind == "string":
        hdf5.put_texts(group, "value", [str(value) for value in values])
        return
    rows = [np.asarray(value) for value in values]
    width = max([1, *map(len, rows)])
    table = np.zeros((len(rows), width), log.dtype)
    for row, value in zip(table, rows, strict=True):
        row[: len(value)] = value
    hdf5.put_array(group, "value", table, units)
    elements = np.concatenate(rows).astype(np.float64)
    if len(elements):
        put_statistics(group, elements, log.units)


def _put_enumeration(
    parent: h5py.Group, group: h5py.Group, log: Log, known: dict[str, h5py.Group], numbers: npt.NDArray[np.float64]
) -> None:
    enumeration = log.enumeration
    assert enumeration is not None  # noqa: S101 - the caller looked
    if enumeration.path_name not in known:
        made = hdf5.make_group(parent, enumeration.path_name, "NXcollection")
        values = hdf5.Column(made, "values", "u4")
        values.append(np.array(enumeration.values, np.uint32))
        values.close()
        hdf5.put_texts(made, "names", enumeration.names)
        for value, name in zip(enumeration.values, enumeration.names, strict=True):
            hdf5.put_text(made, f"name_{value}", name)
        hdf5.put_text(made, "target", made.name)
        known[enumeration.path_name] = made
    group["enum"] = known[enumeration.path_name]
    names = dict(zip(enumeration.values, enumeration.names, strict=True))
    hdf5.put_texts(group, "value_strings", [names.get(int(number), "") for number in numbers])


def _free_alias(log: Log, taken: set[str]) -> str:
    """The name under which the log is linked besides its connection; empty where it has no other."""
    if log.alias in ("", log.connection):
        return ""
    alias, count = _UNSAFE_NAME.sub("_", log.alias), 0
    name = alias
    while name in taken:
        count += 1
        name = f"{alias}({count})"
    taken.add(name)
    return name


def _enumerations(device: Element, device_id: int) -> list[Enumeration]:
    found = []
    for one in device.iter("enumeration"):
        elements = [
            (int(_text(element, "enum_element_value")), _text(element, "enum_element_name"))
            for element in one.iter("enum_element")
            if _text(element, "enum_element_value").isdigit()
        ]
        values, names = zip(*elements, strict=True) if elements else ((), ())
        found.append(Enumeration(device_id, _text(one, "enum_name").lower(), values, names))
    return found


def _text(parent: Element, tag: str) -> str:
    child = parent.find(tag)
    return (child.text or "").strip() if child is not None else ""
