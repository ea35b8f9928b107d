"""Runs recorded from the facility's own programs come out as its own translator wrote them."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from neutronflow.domain.adara.packets import BankedEvents, MonitorEvents, decode
from neutronflow.domain.adara.wire import PacketReader
from neutronflow.instrument.translation.assembler import Assembler, Translated
from tests.support.nexusfiles import describe, differences
from tests.support.recorded import SMALL_RUN
from tests.support.streams import RECORDED

HISTOGRAMS = RECORDED.with_name("histo_sms.adara")

#: Where our file may differ from the reference's, and why.
ALLOWED = {
    "": "root attributes: another HDF5 library, another file name, written at another time",
    "/entry/Software/DataAcquistion/note": "words of the program that wrote the file",
    "/entry/Software/Translation/note": "words of the program that wrote the file",
    "/entry/Software/Translation/program": "another program",
    "/entry/Software/Translation/version": "another program",
    "/entry/Software/Translation/date": "translated at another time",
}


def translate(data: bytes, path: Path, pieces: Iterator[int] | None = None) -> Translated:
    assembler = Assembler(path)
    at = 0
    while at < len(data):
        size = next(pieces) if pieces else len(data)
        assembler.feed(data[at : at + size])
        at += size
        if pieces:
            assembler.flush()
    return assembler.finish()


def test_the_file_equals_the_references_in_every_group_dataset_attribute_and_link(tmp_path: Path) -> None:
    translate(RECORDED.read_bytes(), tmp_path / "run.nxs.h5")
    assert differences(tmp_path / "run.nxs.h5", SMALL_RUN).keys() <= ALLOWED.keys()


def test_the_root_says_what_the_references_root_says(tmp_path: Path) -> None:
    translate(RECORDED.read_bytes(), tmp_path / "run.nxs.h5")
    with h5py.File(tmp_path / "run.nxs.h5") as ours, h5py.File(SMALL_RUN) as theirs:
        assert set(ours.attrs) == set(theirs.attrs)
        assert ours.attrs["NeXus_version"] == theirs.attrs["NeXus_version"]


def test_values_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """``differences`` compares numbers; this compares bytes, so that -0.0 is not 0.0."""
    translate(RECORDED.read_bytes(), tmp_path / "run.nxs.h5")

    def digests(path: Path) -> dict[str, str]:
        found = describe(path)
        return {
            where: hashlib.sha256(np.asarray(item["values"]).tobytes()).hexdigest()
            for where, item in found.items()
            if "values" in item and where not in ALLOWED
        }

    ours = digests(tmp_path / "run.nxs.h5")
    assert len(ours) > 300
    assert ours == digests(SMALL_RUN)


@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_any_size_make_the_same_file(tmp_path: Path, seed: int) -> None:
    data = RECORDED.read_bytes()
    chance = random.Random(seed)
    sizes = iter(lambda: chance.choice([1, 7, 500, 4096, 100_000]), None)
    translate(data, tmp_path / "pieces.nxs.h5", sizes)
    translate(data, tmp_path / "whole.nxs.h5")
    told = differences(tmp_path / "pieces.nxs.h5", tmp_path / "whole.nxs.h5")
    assert told.keys() <= {"", "/entry/Software/Translation/date"}


def test_events_of_several_sources_come_out_bank_by_bank_in_the_order_of_the_stream(tmp_path: Path) -> None:
    """Against the packets as the plain reader decodes them: error and unmapped events, vetoes, histogram monitors."""
    data = HISTOGRAMS.read_bytes()
    done = translate(data, tmp_path / "run.nxs.h5")
    tofs: dict[str, list[np.ndarray]] = defaultdict(list)
    pixels: dict[str, list[np.ndarray]] = defaultdict(list)
    indices: dict[str, list[int]] = defaultdict(list)
    names = {0xFFFFFFFF: "bank_unmapped_events", 0xFFFFFFFE: "bank_error_events"}
    banked = [found for packet in PacketReader().feed(data) if isinstance(found := decode(packet), BankedEvents)]
    known = {bank.bank_id for pulse in banked for source in pulse.sources for bank in source.banks}
    for pulse in banked:
        for bank_id in known:
            name = names.get(bank_id, f"bank{bank_id}_events")
            indices[name].append(sum(map(len, tofs[name])))
            for source in pulse.sources:
                tofs[name] += [bank.tof for bank in source.banks if bank.bank_id == bank_id]
                pixels[name] += [bank.pixel for bank in source.banks if bank.bank_id == bank_id]
    assert len(banked) == done.pulses
    with h5py.File(tmp_path / "run.nxs.h5") as file:
        for name, expected in tofs.items():
            group = file["entry"][name]
            tof = np.concatenate(expected)
            assert np.array_equal(group["event_time_offset"][()], (tof / 10.0).astype(np.float32))
            assert np.array_equal(group["event_id"][()], np.concatenate(pixels[name]))
            assert np.array_equal(group["event_index"][()], indices[name])
            assert group["total_counts"][0] == len(tof)
        # As the reference's own listing of its file has them.
        assert file["entry/bank1_events/total_counts"][0] == 6776
        assert file["entry/bank_error_events/total_counts"][0] == 1426
        assert file["entry/bank_unmapped_events/total_counts"][0] == 3447
        assert file["entry/total_uncounted_counts"][0] == 1426 + 3447
        assert file["entry/total_counts"][0] == done.events == 135_927


def test_beam_monitors_configured_as_histograms_are_kept_as_events_and_the_file_says_so(tmp_path: Path) -> None:
    data = HISTOGRAMS.read_bytes()
    done = translate(data, tmp_path / "run.nxs.h5")
    expected: dict[int, list[np.ndarray]] = defaultdict(list)
    for packet in PacketReader().feed(data):
        found = decode(packet)
        if isinstance(found, MonitorEvents):
            for section in found.monitors:
                expected[section.monitor_id].append(section.events & 0x1FFFFF)
    with h5py.File(tmp_path / "run.nxs.h5") as file:
        for monitor, parts in expected.items():
            tof = file[f"entry/monitor{monitor}/event_time_offset"][()]
            assert np.array_equal(tof, (np.concatenate(parts) / 10.0).astype(np.float32))
        note = file["entry/Software/Translation/note"][0].decode()
    assert len(done.problems) == 4
    assert all(problem in note for problem in done.problems)
    assert "bank set 'BSD' asks for a histogram of 4 banks" in note
