"""The last value of each process variable, for the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from neutronflow.domain.adara.devices import DeviceDescriptor, MultiVariableValue, Value, VariableValue
from neutronflow.domain.adara.variables import read_device

_LONGEST_TEXT: Final = 4096
_MOST_ELEMENTS: Final = 200
#: A stream that defines more than this many variables is out of order.
MAX_VARIABLES: Final = 100_000


@dataclass(slots=True)
class Variable:
    """A process variable as it is defined, and its last value: a number, or else text."""

    name: str
    units: str
    signed: bool
    names: dict[int, str] = field(default_factory=dict)
    number: float | None = None
    text: str | None = None
    status: int = 0
    severity: int = 0
    #: Unix seconds.
    at: float = 0.0


class Variables:
    """Knows the definitions, and what has changed since it was last asked."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[int, int], Variable] = {}
        self._descriptors: dict[int, str] = {}
        self._changed: dict[str, Variable] = {}

    def forget(self) -> None:
        """The stream begins anew, with all definitions and values."""
        self._by_id.clear()
        self._descriptors.clear()

    def define(self, descriptor: DeviceDescriptor) -> None:
        """Take a definition. Raises ValueError where it cannot be used."""
        if self._descriptors.get(descriptor.device_id) == descriptor.xml:
            return
        self._descriptors[descriptor.device_id] = descriptor.xml
        if not descriptor.xml:
            return
        device = read_device(descriptor)
        for variable in device.variables:
            if variable.ignored or len(self._by_id) >= MAX_VARIABLES:
                continue
            enumeration = variable.enumeration
            names = dict(zip(enumeration.values, enumeration.names, strict=True)) if enumeration is not None else {}
            self._by_id[descriptor.device_id, variable.variable_id] = Variable(
                variable.alias, variable.units, variable.dtype == "i4", names
            )

    def take(self, time_ns: int, update: VariableValue | MultiVariableValue) -> None:
        """Take a value."""
        variable = self._by_id.get((update.device_id, update.variable_id))
        if variable is None:
            return
        at = time_ns / 1e9
        if isinstance(update, MultiVariableValue):
            if not update.values:
                return
            offset_ns, value = update.values[-1]
            at += offset_ns / 1e9
        else:
            value = update.value
        number, text = _shown(variable, value)
        same = (variable.number, variable.text, variable.status) == (number, text, update.status)
        if same and at <= variable.at:
            return
        variable.number, variable.text = number, text
        variable.status, variable.severity, variable.at = update.status, update.severity, at
        self._changed[variable.name] = variable

    def changed(self) -> list[Variable]:
        """What has changed since the last call."""
        changed, self._changed = list(self._changed.values()), {}
        return changed


def _shown(variable: Variable, value: Value) -> tuple[float | None, str | None]:
    if isinstance(value, int):
        if variable.names:
            return None, variable.names.get(value, str(value))
        return float(value - (1 << 32) if variable.signed and value >= 1 << 31 else value), None
    if isinstance(value, float):
        return (value, None) if np.isfinite(value) else (None, str(value))
    if isinstance(value, str):
        return None, value[:_LONGEST_TEXT].replace("\0", "")
    shown = ", ".join(f"{one:g}" for one in value[:_MOST_ELEMENTS].tolist())
    return None, (f"[{shown}, …]" if len(value) > _MOST_ELEMENTS else f"[{shown}]")[:_LONGEST_TEXT]
