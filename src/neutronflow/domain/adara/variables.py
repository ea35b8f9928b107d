"""What a device descriptor says: the process variables of a device, and its enumerations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from neutronflow.domain.adara.devices import DeviceDescriptor
from neutronflow.domain.adara.xml import child_text, parse_xml

#: pv_type -> (wire kind, numpy type of the values); enumerations are unsigned.
_TYPES: Final = {
    "integer": ("u32", "i4"),
    "unsigned": ("u32", "u4"),
    "unsigned integer": ("u32", "u4"),
    "float": ("double", "f4"),
    "double": ("double", "f8"),
    "string": ("string", ""),
    "integer array": ("u32 array", "u4"),
    "double array": ("double array", "f8"),
}
_UNIT_UNSET: Final = "(unset)"
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_U32: Final = 0xFFFFFFFF


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


@dataclass(frozen=True, slots=True)
class Variable:
    """One process variable as defined; ``kind`` as in :class:`~.devices.VariableValue`."""

    variable_id: int
    #: Its name in the control system, and the one for people (the same where there is none).
    connection: str
    alias: str
    kind: str
    #: numpy type of the values; empty for text.
    dtype: str
    units: str
    ignored: bool
    enumeration: Enumeration | None


@dataclass(frozen=True, slots=True)
class Device:
    """A device's variables; ``unusable`` says which of those that it defines cannot be used."""

    device_id: int
    name: str
    variables: tuple[Variable, ...]
    unusable: tuple[str, ...]


def read_device(descriptor: DeviceDescriptor) -> Device:
    """Read the XML of a descriptor. Raises ValueError where it cannot be used at all."""
    root = parse_xml(descriptor.xml)
    number = descriptor.device_id
    enumerations = {one.name: one for one in _enumerations(root, number)}
    variables, unusable = [], []
    for element in root.iter("process_variable"):
        found = _variable(element, enumerations)
        if isinstance(found, Variable):
            variables.append(found)
        else:
            unusable.append(f"device {number} defines a variable that cannot be used ({found})")
    return Device(number, _text(root, "device_name") or f"Device{number}", tuple(variables), tuple(unusable))


def _variable(element: Element, enumerations: dict[str, Enumeration]) -> Variable | str:
    """The variable, or what is known of one that cannot be used."""
    connection = _text(element, "pv_connection") or _text(element, "pv_name")
    kind_name = _text(element, "pv_type").lower()
    kind, dtype = ("u32", "u4") if kind_name.startswith("enum") else _TYPES.get(kind_name, ("", ""))
    number = _text(element, "pv_id")
    if not connection or not _is_u32(number) or not kind:
        return f"{connection!r}, type {kind_name!r}"
    units = _text(element, "pv_units")
    return Variable(
        variable_id=int(number),
        connection=connection,
        alias=_text(element, "pv_name") or connection,
        kind=kind,
        dtype=dtype,
        units="" if units == _UNIT_UNSET else units,
        ignored=_text(element, "pv_ignore") not in ("", "0"),
        enumeration=enumerations.get(kind_name),
    )


def _enumerations(device: Element, device_id: int) -> list[Enumeration]:
    found = []
    for one in device.iter("enumeration"):
        names: dict[int, str] = {}
        for element in one.iter("enum_element"):
            value = _text(element, "enum_element_value")
            if _is_u32(value):
                names.setdefault(int(value), _text(element, "enum_element_name"))
        found.append(Enumeration(device_id, _text(one, "enum_name").lower(), tuple(names), tuple(names.values())))
    return found


def _is_u32(text: str) -> bool:
    return _WHOLE_NUMBER.fullmatch(text) is not None and int(text) <= _U32


def _text(parent: Element, tag: str) -> str:
    return child_text(parent, tag).strip()
