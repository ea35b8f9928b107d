from __future__ import annotations

from pathlib import Path

import pytest

from neutronflow.domain.facility import BadIdentifier, Facilities, Place, RunKey, UnknownFacility, facilities
from neutronflow.foundation.errors import ConfigurationError

ROOT = Path("/archive")


@pytest.fixture
def shipped() -> Facilities:
    return facilities(ROOT, {})


def test_files_lie_where_the_facility_has_them(shipped: Facilities) -> None:
    run = shipped.run_key("sns", "hys", 1001)
    assert shipped.nexus_file(run, "IPTS-12345") == ROOT / "SNS/HYS/IPTS-12345/nexus/HYS_1001.nxs.h5"
    assert shipped.script_dir("SNS", "HYS") == ROOT / "SNS/HYS/shared/autoreduce"
    assert shipped.reduced_dir(run, "IPTS-12345") == ROOT / "SNS/HYS/IPTS-12345/shared/autoreduce"


def test_names_are_taken_in_any_case(shipped: Facilities) -> None:
    assert shipped.run_key("hfir", "cg2", 5) == RunKey("HFIR", "CG2", 5)
    assert shipped.experiment("SNS", " ipts-9 ") == "IPTS-9"


@pytest.mark.parametrize("name", ["", "../etc", "a/b", "a';drop table run;--", "..", "<b>", "H\0", "A" * 21])
def test_a_name_that_is_no_instrument_is_refused(shipped: Facilities, name: str) -> None:
    with pytest.raises(BadIdentifier, match="an instrument"):
        shipped.run_key("SNS", name, 1)


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_a_number_that_is_no_run_is_refused(shipped: Facilities, number: int) -> None:
    with pytest.raises(BadIdentifier, match="a run number"):
        shipped.run_key("SNS", "HYS", number)


def test_an_unknown_facility_is_refused_with_those_known(shipped: Facilities) -> None:
    with pytest.raises(UnknownFacility, match="HFIR, SNS"):
        shipped.run_key("ESS", "DREAM", 1)


def test_settings_add_a_facility_with_patterns_of_its_own() -> None:
    table = {"ess": {"experiment_pattern": r"\d{6}", "nexus_dir": "{facility}/{instrument}/raw/{experiment}"}}
    known = facilities(ROOT, table)
    run = known.run_key("ESS", "dream", 7)
    assert known.nexus_file(run, known.experiment("ESS", "123456")) == ROOT / "ESS/DREAM/raw/123456/DREAM_7.nxs.h5"
    with pytest.raises(BadIdentifier):
        known.experiment("ESS", "IPTS-1")


@pytest.mark.parametrize(
    "values", [{"experiment_pattern": "("}, {"nexus_dir": "{nothing}"}, {"colour": "red"}, {"nexus_dir": 5}]
)
def test_a_profile_that_cannot_work_names_its_table(values: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"\[facilities\.ess\]"):
        facilities(ROOT, {"ess": values})


def test_links_that_lead_out_of_the_archive_are_seen(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "out").symlink_to("/etc")
    known = facilities(archive, {})
    assert known.contains(archive / "SNS" / "file")
    assert not known.contains(archive / "out" / "passwd")
    assert not known.contains(archive / ".." / "passwd")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("SNS/HYS/IPTS-12345/nexus/HYS_1001.nxs.h5", Place("SNS", "HYS", "IPTS-12345", 1001)),
        ("SNS/HYS/IPTS-12345/nexus/HYS_1001.v2.nxs.h5", Place("SNS", "HYS", "IPTS-12345", 1001)),
        ("sns/hys/ipts-1/nexus/hys_0007.nxs.h5", Place("SNS", "HYS", "IPTS-1", 7)),
        ("HFIR/CG2/IPTS-9/shared/autoreduce/CG2_12.json", Place("HFIR", "CG2", "IPTS-9", 12)),
        ("HFIR/CG2/IPTS-9/shared/autoreduce/deeper/CG2_12_x.json", Place("HFIR", "CG2", "IPTS-9", 12)),
        ("SNS/REF_L/IPTS-2/nexus/REF_L_12.nxs.h5", Place("SNS", "REF_L", "IPTS-2", 12)),
        ("SNS/HYS/IPTS-1/nexus/notes.txt", Place("SNS", "HYS", "IPTS-1", None)),
        ("SNS/HYS/IPTS-1/nexus/HYS_99999999999.nxs.h5", Place("SNS", "HYS", "IPTS-1", None)),
        ("raw/muon/EMU/P1/r5.nx", Place("MUON", "EMU", "P1", 5)),
        ("raw/muon/EMU/IPTS-1/r5.nx", None),
        ("SNS/HYS/P1/nexus/HYS_1.nxs.h5", None),
        ("SNS/HYS/IPTS-1/nexus2/HYS_1.nxs.h5", None),
        ("ESS/HYS/IPTS-1/nexus/HYS_1.nxs.h5", None),
        ("HYS_1.nxs.h5", None),
    ],
)
def test_a_file_is_known_by_where_it_lies(tmp_path: Path, path: str, place: Place | None) -> None:
    muon = {"experiment_pattern": r"P\d", "nexus_dir": "raw/muon/{instrument}/{experiment}", "nexus_name": "r{run}.nx"}
    assert facilities(tmp_path, {"muon": muon}).place_of(tmp_path / path) == place


def test_a_file_outside_of_the_archive_is_nobodys(tmp_path: Path) -> None:
    assert facilities(tmp_path / "archive", {}).place_of(tmp_path / "SNS/HYS/IPTS-1/nexus/HYS_1.nxs.h5") is None
