from __future__ import annotations

import os
from pathlib import Path

import pytest

from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import facilities
from neutronflow.instrument.simulator.janitor import Janitor

NOW = 2_000_000_000.0


def put(path: Path, age_s: float, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def janitor(archive: Path, keep: float, **changes: object) -> Janitor:
    beamline = BeamlineSettings(**changes)  # type: ignore[arg-type]
    return Janitor(facilities(archive, {}), beamline, archive.parent / "records", keep)


def test_the_oldest_files_go_until_the_rest_is_small_enough(archive: Path) -> None:
    experiment = archive / "SNS" / "PG3" / "IPTS-99001"
    raw = [put(experiment / "nexus" / f"PG3_{n}.nxs.h5", 10_000 - n) for n in range(5)]
    reduced = put(experiment / "shared" / "autoreduce" / "PG3_0_reduced.nxs.h5", 9_999.5)
    log = put(experiment / "shared" / "autoreduce" / "reduction_log" / "PG3_0.log", 20_000)
    record = put(archive.parent / "records" / "pulses-1.bin", 15_000)
    assert janitor(archive, 8_000).clean(NOW) == []
    assert janitor(archive, 4_000).clean(NOW) == [log, record, raw[0], reduced]
    assert [path.exists() for path in raw] == [False, True, True, True, True]


def test_nothing_else_is_touched(archive: Path) -> None:
    old = 1_000_000.0
    kept = [
        put(archive / "SNS" / "HYS" / "IPTS-1" / "nexus" / "HYS_1.nxs.h5", old),
        put(archive / "HFIR" / "PG3" / "IPTS-1" / "nexus" / "PG3_1.nxs.h5", old),
        put(archive / "SNS" / "PG3" / "shared" / "autoreduce" / "reduce_PG3.py", old),
        put(archive / "SNS" / "PG3" / "IPTS-1" / "shared" / "notes.txt", old),
        put(archive / "SNS" / "PG3" / "IPTS-1" / "adara" / "PG3_1.adara", old),
        put(archive / "SNS" / "PG3" / "no experiment" / "nexus" / "PG3_2.nxs.h5", old),
        put(archive.parent / "elsewhere" / "precious", old),
    ]
    (archive / "SNS" / "PG3" / "IPTS-2").mkdir()
    (archive / "SNS" / "PG3" / "IPTS-2" / "nexus").symlink_to(archive.parent / "elsewhere")
    link = put(archive / "SNS" / "PG3" / "IPTS-3" / "nexus" / "x", old).with_name("PG3_3.nxs.h5")
    link.symlink_to(kept[0])
    gone = janitor(archive, 0).clean(NOW)
    assert [path.name for path in gone] == ["x"]
    assert all(path.exists() for path in kept)
    assert link.is_symlink()


def test_files_that_may_be_worked_on_stay(archive: Path) -> None:
    young = put(archive / "SNS" / "PG3" / "IPTS-99001" / "nexus" / "PG3_1.nxs.h5", 60)
    assert janitor(archive, 0).clean(NOW) == []
    assert young.exists()


def test_a_beamline_that_is_not_simulated_is_never_cleaned(archive: Path) -> None:
    measured = put(archive / "SNS" / "PG3" / "IPTS-99001" / "nexus" / "PG3_1.nxs.h5", 1_000_000)
    assert janitor(archive, 0, simulated=False).clean(NOW) == []
    assert measured.exists()
