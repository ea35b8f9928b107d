"""HDF5 as the facility's readers expect it: strings of fixed length, one-element scalars, columns that grow.

Strings are fixed-length and null-terminated with a size of exactly their length, which h5py's high-level interface does
not write; hence the low-level calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

#: Elements in a chunk of a growing column.
CHUNK = 49152

Array: TypeAlias = npt.NDArray[Any]
Attributes: TypeAlias = Mapping[str, "str | np.generic"]


def put_text(group: h5py.Group, name: str, text: str, attributes: Attributes | None = None) -> h5py.Dataset:
    """A text as a dataset of shape (1,)."""
    data = _bytes(text)
    return _create(group, name, np.array([data], f"S{len(data)}"), _string_type(len(data)), attributes)


def put_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> h5py.Dataset:
    """Texts as a dataset of shape (n, 1), padded with spaces to the longest."""
    rows = [text.encode(errors="surrogateescape") for text in texts]
    size = max([1, *map(len, rows)])
    padded = np.array([[row.ljust(size)] for row in rows], f"S{size}")
    return _create(group, name, padded, _string_type(size), None)


def put_scalar(group: h5py.Group, name: str, value: np.generic, attributes: Attributes | None = None) -> h5py.Dataset:
    """A number as a dataset of shape (1,)."""
    return put_array(group, name, np.array([value]), attributes)


def put_array(group: h5py.Group, name: str, array: Array, attributes: Attributes | None = None) -> h5py.Dataset:
    """An array of any shape, contiguous."""
    return _create(group, name, array, h5py.h5t.py_create(array.dtype), attributes)


def put_attribute(target: h5py.Group | h5py.Dataset, name: str, value: str | np.generic) -> None:
    """A scalar attribute; text has a fixed length."""
    if isinstance(value, str):
        data = _bytes(value)
        kind, array = _string_type(len(data)), np.array(data, f"S{len(data)}")
    else:
        kind, array = h5py.h5t.py_create(value.dtype), np.array(value)
    attribute = h5py.h5a.create(target.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(array, mtype=kind)


def make_group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    """A group of a NeXus class."""
    group = parent.create_group(name)
    put_attribute(group, "NX_class", nx_class)
    return group


class Column:
    """A one-dimensional dataset that grows; whole chunks go straight to the file, the rest when it is closed.

    Where fewer than a chunk's elements came in all, the chunk is as large as they are (``empty_chunk`` where none came).
    """

    def __init__(
        self, group: h5py.Group, name: str, dtype: str, attributes: Attributes | None = None, *, empty_chunk: int = 1
    ) -> None:
        self._group = group
        self._name = name
        self._dtype = np.dtype(dtype)
        self._attributes = attributes
        self._empty_chunk = empty_chunk
        #: What waits until it fills a chunk: the first ``_held`` elements. Used again for every chunk.
        self._waiting: Array = np.empty(0, self._dtype)
        self._held = 0
        self._written = 0
        self._dataset: h5py.Dataset | None = None

    def __len__(self) -> int:
        return self._written + self._held

    def append(self, array: Array) -> None:
        """Add elements, shape (n,); they are written or copied before this returns."""
        at = 0
        while at < len(array):
            if self._held == CHUNK:
                self._write(self._waiting)
                self._held = 0
            whole = 0 if self._held else (len(array) - at) // CHUNK * CHUNK
            if whole:
                self._write(np.ascontiguousarray(array[at : at + whole], self._dtype))
                at += whole
            else:
                at += self._keep(array[at : at + CHUNK - self._held])

    def fill(self, value: float, until: int) -> None:
        """Add ``value`` until there are ``until`` elements."""
        while len(self) < until:
            self.append(np.full(min(CHUNK, until - len(self)), value, self._dtype))

    def close(self) -> h5py.Dataset:
        """Write what is left, and give back the dataset."""
        dataset = self._dataset or self._make(self._held or self._empty_chunk)
        if self._held:
            dataset.resize((self._written + self._held,))
            dataset[self._written :] = self._waiting[: self._held]
            self._written, self._held = self._written + self._held, 0
        self._waiting, self._dataset = np.empty(0, self._dtype), dataset
        return dataset

    def _keep(self, array: Array) -> int:
        held = self._held + len(array)
        if held > len(self._waiting):
            # Most columns of most runs stay small: room is made as it is needed.
            larger = np.empty(min(CHUNK, max(256, 2 * held)), self._dtype)
            larger[: self._held] = self._waiting[: self._held]
            self._waiting = larger
        self._waiting[self._held : held] = array
        self._held = held
        return len(array)

    def _write(self, whole: Array) -> None:
        """Write chunks, ``whole`` of shape (n * CHUNK,)."""
        if self._dataset is None:
            self._dataset = self._make(CHUNK)
        self._dataset.resize((self._written + len(whole),))
        for start in range(0, len(whole), CHUNK):
            self._dataset.id.write_direct_chunk((self._written + start,), whole[start : start + CHUNK])
        self._written += len(whole)

    def _make(self, chunk: int) -> h5py.Dataset:
        dataset = self._group.create_dataset(self._name, (0,), self._dtype, maxshape=(None,), chunks=(chunk,))
        for key, value in (self._attributes or {}).items():
            put_attribute(dataset, key, value)
        return dataset


def put_column(
    group: h5py.Group,
    name: str,
    dtype: str,
    values: Array,
    attributes: Attributes | None = None,
    *,
    empty_chunk: int = 1,
) -> h5py.Dataset:
    """A column of which everything is known, shape (n,)."""
    column = Column(group, name, dtype, attributes, empty_chunk=empty_chunk)
    column.append(values)
    return column.close()


def _create(
    group: h5py.Group, name: str, array: Array, kind: h5py.h5t.TypeID, attributes: Attributes | None
) -> h5py.Dataset:
    space = h5py.h5s.create_simple(array.shape)
    handle = h5py.h5d.create(group.id, name.encode(errors="surrogateescape"), kind, space)
    if array.size:
        handle.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array), mtype=kind)
    dataset = h5py.Dataset(handle)
    for key, value in (attributes or {}).items():
        put_attribute(dataset, key, value)
    return dataset


def _string_type(size: int) -> h5py.h5t.TypeID:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(max(1, size))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    return kind


def _bytes(text: str) -> bytes:
    """The bytes of a text; an empty one is one NUL, as HDF5 has no strings of no length."""
    return text.encode(errors="surrogateescape") or b"\0"
