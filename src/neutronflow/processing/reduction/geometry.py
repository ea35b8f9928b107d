"""Where an instrument's pixels are, by its definition in the file: XML as Mantid reads it.

Of that language this knows components of components, grids of pixels (``rectangular_detector``), locations in Cartesian or
spherical coordinates with rotations, lists of ids, and positions that follow the values of process variables.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from neutronflow.domain.adara.xml import parse_xml
from neutronflow.foundation.errors import NeutronflowError

Vector: TypeAlias = "NDArray[np.float64]"

#: A definition may nest its components so deep, and have so many pixels, with ids below that.
_MOST_DEEP: Final = 30
_MOST_PIXELS: Final = 1 << 23
_AXES: Final = {"rotx": (1.0, 0.0, 0.0), "roty": (0.0, 1.0, 0.0), "rotz": (0.0, 0.0, 1.0)}


class BadDefinition(NeutronflowError):
    """The instrument's definition cannot be used: {detail}."""

    code = "bad-definition"


@dataclass(frozen=True, slots=True)
class Geometry:
    """Positions in m. ``pixel_ids`` (uint32) are sorted, shape (pixels,); ``positions`` has shape (pixels, 3)."""

    source: Vector
    sample: Vector
    pixel_ids: NDArray[np.uint32]
    positions: Vector

    @property
    def l1(self) -> float:
        """From the source to the sample, in m."""
        return float(np.linalg.norm(self.sample - self.source))

    @property
    def l2(self) -> Vector:
        """From the sample to each pixel, in m."""
        distances: Vector = np.linalg.norm(self.positions - self.sample, axis=1)
        return distances

    @property
    def two_theta(self) -> Vector:
        """The scattering angle of each pixel, in rad."""
        scattered = self.positions - self.sample
        along = scattered @ ((self.sample - self.source) / self.l1)
        # Not the arc cosine, which is bad at small angles.
        across = np.linalg.norm(scattered - along[:, None] * ((self.sample - self.source) / self.l1), axis=1)
        angles: Vector = np.arctan2(across, along)
        return angles


def read_definition(xml: str, value_of: Callable[[str], float | None] = lambda _name: None) -> Geometry:
    """The geometry in a definition. Raises :class:`BadDefinition`.

    ``value_of`` gives the value of a process variable, by which parts of an instrument may be placed.
    """
    try:
        return _Definition(parse_xml(xml), value_of).geometry()
    except (ValueError, KeyError, TypeError, ArithmeticError, SyntaxError, RecursionError) as error:
        raise BadDefinition(detail=str(error)) from error


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where something is and how it is turned."""

    position: Vector
    rotation: Vector

    def within(self, parent: _Frame) -> _Frame:
        return _Frame(parent.position + parent.rotation @ self.position, parent.rotation @ self.rotation)


class _Definition:
    def __init__(self, root: Element, value_of: Callable[[str], float | None]) -> None:
        self._root = root
        self._value_of = value_of
        self._types = {element.get("name", ""): element for element in root.iter("type")}
        self._id_lists = {element.get("idname", ""): element for element in root.iter("idlist")}
        self._ids: list[NDArray[np.int64]] = []
        self._positions: list[Vector] = []
        self._count = 0
        self._source: Vector | None = None
        self._sample: Vector | None = None

    def geometry(self) -> Geometry:
        unit = self._root.find("defaults/length")
        if unit is not None and unit.get("unit", "meter") not in {"meter", "metre", "m"}:
            raise ValueError(f"its lengths are in {unit.get('unit')}")
        nowhere = _Frame(np.zeros(3), np.eye(3))
        for component in self._root.findall("component"):
            self._place(component, nowhere, None, 0)
        if self._source is None or self._sample is None:
            raise ValueError("it has no source or no sample position")
        if np.allclose(self._source, self._sample):
            raise ValueError("the sample is where the source is")
        if not self._ids:
            raise ValueError("it has no detector pixels")
        ids, positions = np.concatenate(self._ids), np.concatenate(self._positions)
        unique, first = np.unique(ids, return_index=True)
        if len(unique) != len(ids):
            raise ValueError("it uses an id for two pixels")
        if unique[0] < 0 or unique[-1] >= _MOST_PIXELS:
            raise ValueError(f"it has pixel ids that are not from 0 to {_MOST_PIXELS - 1}")
        return Geometry(self._source, self._sample, unique.astype(np.uint32), positions[first])

    def _place(self, component: Element, parent: _Frame, ids: Iterator[int] | None, depth: int) -> None:
        """Place a component, once for each of its locations; ids are taken from ``ids`` in order."""
        if depth > _MOST_DEEP:
            raise ValueError("its components are nested too deep, or in a circle")
        kind = self._types.get(component.get("type", ""))
        if kind is None:
            return  # a shape to look at
        if component.get("idlist"):
            ids = self._listed(component.get("idlist", ""))
        frames = [frame.within(parent) for frame in self._frames(component)]
        role = kind.get("is", "").lower()
        if component.get("mark-as") == "monitor" or role == "monitor":
            for _ in frames:
                next(ids or iter(()), None)
        elif role == "source":
            self._source = frames[0].position
        elif role == "samplepos":
            self._sample = frames[0].position
        elif role:
            self._detect(component, kind, frames, ids)
        else:
            for frame in frames:
                for child in kind.findall("component"):
                    self._place(child, frame, ids, depth + 1)

    def _detect(self, component: Element, kind: Element, frames: list[_Frame], ids: Iterator[int] | None) -> None:
        """Note the pixels of a detector; what else there is, choppers or guides, has none."""
        role = kind.get("is", "").lower()
        if role == "detector":
            found = list(itertools.islice(ids or iter(()), len(frames)))
            self._add(np.array(found, np.int64), np.array([frame.position for frame in frames]))
        elif role in {"rectangular_detector", "rectangulardetector"}:
            for frame in frames:
                self._grid(component, kind, frame)

    def _grid(self, component: Element, kind: Element, frame: _Frame) -> None:
        columns, rows = int(kind.attrib["xpixels"]), int(kind.attrib["ypixels"])
        if not 0 < columns * rows <= _MOST_PIXELS:
            raise ValueError(f"it has a grid of {columns} x {rows} pixels")
        x = float(kind.attrib["xstart"]) + float(kind.attrib["xstep"]) * np.arange(columns)
        y = float(kind.attrib["ystart"]) + float(kind.attrib["ystep"]) * np.arange(rows)
        by_column = component.get("idfillbyfirst", "y") == "y"
        along = rows if by_column else columns
        line, step = int(component.get("idstepbyrow", along)), int(component.get("idstep", 1))
        column, row = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
        ids = int(component.get("idstart", 0)) + (
            column * line + row * step if by_column else row * line + column * step
        )
        flat = np.stack(np.broadcast_arrays(x[:, None], y[None, :], 0.0), axis=-1).reshape(-1, 3)
        self._add(ids.ravel().astype(np.int64), frame.position + flat @ frame.rotation.T)

    def _add(self, ids: NDArray[np.int64], positions: Vector) -> None:
        if len(ids) != len(positions):
            raise ValueError("a detector has no id")
        self._count += len(ids)
        if self._count > _MOST_PIXELS:
            raise ValueError(f"it has more than {_MOST_PIXELS} pixels")
        self._ids.append(ids)
        self._positions.append(positions.reshape(-1, 3))

    def _listed(self, name: str) -> Iterator[int]:
        for entry in self._id_lists[name].findall("id"):
            if "val" in entry.attrib:
                yield int(entry.attrib["val"])
            else:
                start, end, step = int(entry.attrib["start"]), int(entry.attrib["end"]), int(entry.get("step", 1))
                yield from range(start, end + (1 if step > 0 else -1), step)

    def _frames(self, component: Element) -> Iterator[_Frame]:
        """The component's locations, in its parent's terms."""
        for location in component:
            if location.tag == "location":
                yield self._frame(location)
            elif location.tag == "locations":
                yield from self._frames_between(location)

    def _frames_between(self, locations: Element) -> Iterator[_Frame]:
        """``<locations>``: evenly spread from each coordinate to its ``-end``."""
        count = int(locations.attrib["n-elements"])
        if not 0 < count <= _MOST_PIXELS:
            raise ValueError(f"it has {count} locations")
        values = {}
        for name, text in locations.attrib.items():
            if name in {"x", "y", "z", "r", "t", "p", "rot"}:
                values[name] = np.linspace(float(text), float(locations.get(f"{name}-end", text)), count)
        for i in range(count):
            one = Element("location", dict(locations.attrib))
            one.attrib.update({name: repr(float(column[i])) for name, column in values.items()})
            yield self._frame(one)

    def _frame(self, location: Element) -> _Frame:
        moved = {parameter.get("name", ""): self._parameter(parameter) for parameter in location.findall("parameter")}

        def number(name: str, parameter: str) -> float:
            return moved.get(parameter, float(location.get(name, 0.0)))

        if {"r", "t", "p"} & location.attrib.keys() or {"r-position", "t-position", "p-position"} & moved.keys():
            r, t, p = number("r", "r-position"), number("t", "t-position"), number("p", "p-position")
            t, p = np.radians(t), np.radians(p)
            position = r * np.array([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)])
        else:
            position = np.array([number(name, name) for name in "xyz"])
        rotation = np.eye(3)
        element: Element | None = location
        while element is not None:  # rotations stand in each other, the outermost comes first
            angle = element.get("rot" if element is location else "val")
            if angle is not None:
                axis = [
                    float(element.get(f"axis-{name}", default)) for name, default in zip("xyz", (0, 0, 1), strict=True)
                ]
                rotation = rotation @ _turn(float(angle), axis)
            element = element.find("rot")
        if _AXES.keys() & moved.keys():
            rotation = np.eye(3)
            for name, turned in _AXES.items():
                rotation = rotation @ _turn(moved.get(name, 0.0), turned)
        return _Frame(position, rotation)

    def _parameter(self, parameter: Element) -> float:
        """A number that is given, or that follows a process variable."""
        given, followed = parameter.find("value"), parameter.find("logfile")
        if given is not None:
            return float(given.attrib["val"])
        if followed is None:
            raise ValueError(f"the parameter '{parameter.get('name')}' has no value")
        name = followed.get("id", "")
        value = self._value_of(name)
        if value is None:
            raise ValueError(f"a position depends on '{name}', of which there is no value")
        return _computed(followed.get("eq") or "value", value)


def _turn(degrees: float, axis: Any) -> Vector:
    """The matrix of a rotation about an axis."""
    x, y, z = np.asarray(axis, np.float64) / (np.linalg.norm(axis) or 1.0)
    across = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(degrees)
    turned: Vector = np.eye(3) + np.sin(angle) * across + (1.0 - np.cos(angle)) * across @ across
    return turned


_OPERATORS: Final[dict[type, Callable[..., float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def _computed(expression: str, value: float) -> float:
    """An expression of numbers, ``value``, + - * / and parentheses. Anything else raises ValueError."""

    def evaluate(node: ast.AST) -> float:
        match node:
            case ast.Expression():
                return evaluate(node.body)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id="value"):
                return value
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return _OPERATORS[type(node.op)](evaluate(node.left), evaluate(node.right))
            case ast.UnaryOp() if type(node.op) in _OPERATORS:
                return _OPERATORS[type(node.op)](evaluate(node.operand))
        raise ValueError(f"'{expression[:80]}' is no expression of 'value'")

    return evaluate(ast.parse(expression.strip(), mode="eval"))
