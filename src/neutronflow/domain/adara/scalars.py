"""Values of process variables that are single numbers, compiled: choppers and fast metadata send one with every pulse.

:func:`scalars` reads all VARIABLE_U32 and VARIABLE_DOUBLE packets of a scanned buffer at once, with the checks that
:func:`~neutronflow.domain.adara.packets.decode` makes of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from neutronflow.domain.adara.devices import SEVERITY_CODES, STATUS_CODES
from neutronflow.domain.adara.events import Scan, Words
from neutronflow.domain.adara.packets import decode
from neutronflow.domain.adara.wire import EPICS_EPOCH_UNIX, HEADER_BYTES, BadPacket, Packet, PacketType

SCALAR_TYPES: Final = (PacketType.VARIABLE_U32, PacketType.VARIABLE_DOUBLE)

_U32: Final = int(PacketType.VARIABLE_U32)
_DOUBLE: Final = int(PacketType.VARIABLE_DOUBLE)
_HEADER_WORDS: Final = HEADER_BYTES // 4


def _known(codes: frozenset[int]) -> npt.NDArray[np.bool_]:
    known = np.zeros(0x10000, np.bool_)
    known[list(codes)] = True
    return known


_STATUS: Final = _known(STATUS_CODES)
_SEVERITY: Final = _known(SEVERITY_CODES)


@dataclass(frozen=True, slots=True)
class Scalars:
    """Values in stream order, all arrays of shape (values,). ``time_ns`` in Unix ns; ``value`` (f8) holds any u32 exactly."""

    time_ns: npt.NDArray[np.int64]
    device_id: Words
    variable_id: Words
    #: Status << 16 | severity.
    alarm: Words
    is_double: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.value)

    def by_variable(self) -> Iterator[Scalars]:
        """The values of one variable, as one kind of number, after the other; each still in stream order."""
        key = (self.device_id.astype(np.uint64) << np.uint64(32)) | self.variable_id
        order = np.lexsort((self.is_double, key))
        key, kind = key[order], self.is_double[order]
        edges = np.flatnonzero((key[1:] != key[:-1]) | (kind[1:] != kind[:-1])) + 1
        for rows in np.split(order, edges) if len(order) else ():
            yield self._rows(rows)

    def _rows(self, rows: npt.NDArray[np.int64]) -> Scalars:
        return Scalars(
            self.time_ns[rows],
            self.device_id[rows],
            self.variable_id[rows],
            self.alarm[rows],
            self.is_double[rows],
            self.value[rows],
        )


def scalars(words: Words, found: Scan, stream_offset: int) -> Scalars:
    """The values in ``found``. Raises :class:`~.wire.BadPacket` with the offset in the stream, as ``decode`` would."""
    count = int(np.isin(found.base, SCALAR_TYPES).sum())
    columns = np.empty((3, count), np.uint32)
    result = Scalars(
        np.empty(count, np.int64),
        columns[0],
        columns[1],
        columns[2],
        np.empty(count, np.bool_),
        np.empty(count, np.float64),
    )
    bad = _read(
        words, found.at, found.base, _STATUS, _SEVERITY, result.time_ns, columns, result.is_double, result.value,
        result.value.view(np.uint64),
    )  # fmt: skip
    if bad >= 0:
        packet = _packet(words, int(found.at[bad]), stream_offset)
        decode(packet)  # it has the words for what is wrong
        raise BadPacket(offset=packet.offset, detail="a value cannot be used")
    return result


def _packet(words: Words, at: int, stream_offset: int) -> Packet:
    length, form, seconds, nanoseconds = (int(word) for word in words[at : at + _HEADER_WORDS])
    payload = words[at + _HEADER_WORDS : at + _HEADER_WORDS + length // 4].tobytes()
    return Packet(form >> 8, form & 0xFF, seconds, nanoseconds, memoryview(payload), stream_offset + 4 * at)


@njit(cache=True, nogil=True)
def _read(
    words: Any, at: Any, base: Any, statuses: Any, severities: Any, time_ns: Any, columns: Any, is_double: Any, value: Any,
    bits: Any,
) -> Any:  # fmt: skip
    """Fill the columns; gives back the position of a packet that is no such value, or -1."""
    n = 0
    for i in range(len(at)):
        kind = base[i]
        if kind != _U32 and kind != _DOUBLE:
            continue
        start = at[i]
        w = start + _HEADER_WORDS
        if words[start] < (16 if kind == _U32 else 20):
            return i
        alarm = words[w + 2]
        if not statuses[alarm >> 16] or not severities[alarm & 0xFFFF]:
            return i
        time_ns[n] = (np.int64(words[start + 2]) + EPICS_EPOCH_UNIX) * 1_000_000_000 + np.int64(words[start + 3])
        columns[0, n] = words[w]
        columns[1, n] = words[w + 1]
        columns[2, n] = alarm
        is_double[n] = kind == _DOUBLE
        if kind == _DOUBLE:
            bits[n] = np.uint64(words[w + 3]) | (np.uint64(words[w + 4]) << np.uint64(32))
        else:
            value[n] = words[w + 3]
        n += 1
    return -1
