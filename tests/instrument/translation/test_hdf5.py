from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.instrument.translation import hdf5
from neutronflow.instrument.translation.hdf5 import CHUNK, Column


@pytest.mark.parametrize(
    ("sizes", "chunk"),
    [
        ([], 1),
        ([0], 1),
        ([1], 1),
        ([CHUNK - 1], CHUNK - 1),
        ([CHUNK], CHUNK),
        ([CHUNK, 1], CHUNK),
        ([CHUNK + 1], CHUNK),
        ([1, CHUNK - 1, 1], CHUNK),
        ([3 * CHUNK], CHUNK),
        ([10, 5 * CHUNK + 7, 0, CHUNK - 17, 17], CHUNK),
        ([1000] * 120, CHUNK),
    ],
)
def test_a_column_holds_what_was_added_in_chunks_that_fit(tmp_path: Path, sizes: list[int], chunk: int) -> None:
    values = np.arange(sum(sizes), dtype=np.uint32)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        column = Column(file, "c", "u4")
        at = 0
        for size in sizes:
            column.append(values[at : at + size])
            at += size
            assert len(column) == at
        column.close()
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["c"].chunks == (chunk,)
        assert file["c"].maxshape == (None,)
        assert np.array_equal(file["c"][()], values)


def test_a_column_takes_a_copy_so_that_buffers_can_be_used_again(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        column = Column(file, "c", "u4")
        buffer = np.zeros(CHUNK + 100, np.uint32)
        for number in range(3):
            buffer[:] = number
            column.append(buffer)
        found = column.close()[()]
    assert np.array_equal(found, np.repeat(np.arange(3), CHUNK + 100))


def test_a_column_can_be_filled_up_with_one_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        column = Column(file, "c", "u8")
        column.fill(0, 2)
        column.append(np.array([5], np.uint64))
        column.fill(7, 2 * CHUNK)
        column.fill(9, 1)
        found = column.close()[()]
    assert found[:4].tolist() == [0, 0, 5, 7]
    assert len(found) == 2 * CHUNK


def test_texts_have_a_fixed_length_of_exactly_theirs(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        hdf5.put_text(file, "text", "ångström", {"units": "Å"})
        hdf5.put_text(file, "empty", "")
        hdf5.put_texts(file, "texts", ["a", "bcd", ""])
        hdf5.put_text(file, "no UTF-8", b"\xff\xfe".decode(errors="surrogateescape"))
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["text"].dtype == "S10"
        assert file["text"][0] == "ångström".encode()
        assert file["empty"][0] == b""
        assert file["texts"][()].tolist() == [[b"a  "], [b"bcd"], [b"   "]]
        assert file["no UTF-8"][0] == b"\xff\xfe"
