"""Comparing two NeXus files completely: groups, datasets, attributes, links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def _attributes(item: Any) -> dict[str, tuple[object, ...]]:
    found = {}
    for name in item.attrs:
        raw = h5py.h5a.open(item.id, name.encode())
        found[name] = (_kind(raw.get_type()), raw.shape, str(item.attrs[name]))
    return found


def _kind(kind: h5py.h5t.TypeID) -> tuple[object, ...]:
    if isinstance(kind, h5py.h5t.TypeStringID):
        return ("string", kind.get_size(), kind.get_strpad(), kind.get_cset())
    return (str(kind.dtype),)


def describe(path: Path) -> dict[str, dict[str, object]]:
    """Every object by its path: what it is, and what it is the same as (hard links share an identity)."""
    found: dict[str, dict[str, object]] = {}
    with h5py.File(path) as file:
        groups: dict[object, list[str]] = {}

        def visit(group: h5py.Group, at: str) -> None:
            for name in group:
                item, where = group[name], f"{at}/{name}"
                groups.setdefault(h5py.h5o.get_info(item.id).addr, []).append(where)
                found[where] = {"attributes": _attributes(item), "group": isinstance(item, h5py.Group)}
                if isinstance(item, h5py.Group):
                    visit(item, where)
                else:
                    plist = item.id.get_create_plist()
                    found[where] |= {
                        "kind": _kind(item.id.get_type()),
                        "shape": item.shape,
                        "maxshape": item.maxshape,
                        "chunks": item.chunks,
                        "filters": plist.get_nfilters(),
                        "values": item[()],
                    }

        visit(file, "")
        found[""] = {"attributes": _attributes(file), "group": True}
        for paths in groups.values():
            for where in paths:
                found[where]["same as"] = sorted(paths)
    return found


def differences(first: Path, second: Path) -> dict[str, str]:
    """path -> what differs there (the first kind of difference found)."""
    one, other = describe(first), describe(second)
    told: dict[str, str] = {}
    for where in sorted(one.keys() | other.keys()):
        if where not in one or where not in other:
            told[where] = f"only in the {'second' if where in other else 'first'}"
            continue
        for aspect in sorted(one[where].keys() | other[where].keys()):
            a, b = one[where].get(aspect), other[where].get(aspect)
            same = np.array_equal(a, b) if aspect == "values" else a == b
            if not same:
                told[where] = f"{aspect}: {_short(a)} is not {_short(b)}"
                break
    return told


def _short(value: object) -> str:
    return str(value).replace("\n", " ")[:200]
