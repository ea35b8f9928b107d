"""What is asked of the catalog, in ONCat's manner."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.recorded import SMALL_RUN
from tests.support.websites import Website

RUNS = "/api/datafiles?facility=SNS&instrument=QRY"
_names = itertools.count()


@pytest.fixture(scope="module")
def five(catalog: Website) -> list[Path]:
    """Runs 1, 2, 3 and 7 of an instrument in one experiment, and 9 in another."""
    files = []
    for experiment, number in [("IPTS-1", 1), ("IPTS-1", 2), ("IPTS-1", 3), ("IPTS-1", 7), ("IPTS-2", 9)]:
        path = catalog.archive / f"SNS/QRY/{experiment}/nexus/QRY_{number}.nxs.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SMALL_RUN, path)
        url = f"{catalog.url}/api/datafiles{quote(str(path))}/ingest"
        assert catalog.http.post(url, headers=catalog.bearer("catalog-token")).status_code == 200
        files.append(path)
    return files


def numbers(catalog: Website, query: str) -> list[int]:
    answer = catalog.get(query)
    assert answer.status_code == 200, answer.text
    return [entry["indexed"]["run_number"] for entry in answer.json()]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [1, 2, 3, 7, 9]),
        ("&ranges_q=indexed.run_number:1-3,7", [1, 2, 3, 7]),
        ("&ranges_q=indexed.run_number:2", [2]),
        ("&ranges_q=indexed.run_number:100-200", []),
        ("&ranges_q=indexed.run_number:8-10,1-1", [1, 9]),
        ("&experiment=IPTS-2", [9]),
        ("&experiment=ipts-1&ranges_q=indexed.run_number:3-9", [3, 7]),
        ("&experiment=", [1, 2, 3, 7, 9]),
        ("&tags=type/raw", [1, 2, 3, 7, 9]),
        ("&tags=type/processed", []),
        ("&exts=.nxs.h5", [1, 2, 3, 7, 9]),
        ("&exts=.tiff", []),
        ("&limit=2", [1, 2]),
        ("&limit=2&skip=3", [7, 9]),
        ("&sort_by=ingested&sort_direction=DESCENDING&limit=1", [9]),
        ("&sort_by=ingested&sort_order=DESCENDING&limit=1", [9]),
        ("&sort_by=ingested&sort_direction=ASCENDING&limit=1", [1]),
    ],
)  # fmt: skip
def test_runs_are_found_by_what_is_asked(catalog: Website, five: list[Path], query: str, found: list[int]) -> None:
    assert numbers(catalog, RUNS + query) == found


def test_names_are_found_in_any_case(catalog: Website, five: list[Path]) -> None:
    assert numbers(catalog, "/api/datafiles?facility=sns&instrument=qry&ranges_q=indexed.run_number:7") == [7]
    assert numbers(catalog, "/api/datafiles?facility=HFIR&instrument=QRY") == []


def test_only_the_projected_fields_are_returned(catalog: Website, five: list[Path]) -> None:
    fields = ("experiment", "location", "metadata.entry.title", "metadata.entry.duration", "metadata.entry.nothing")
    query = "".join(f"&projection={field}" for field in fields)
    (entry,) = catalog.get(f"{RUNS}&ranges_q=indexed.run_number:7{query}").json()
    assert entry.pop("id")
    duration = entry["metadata"]["entry"].pop("duration")
    assert duration == pytest.approx(16.556494)
    title = {"entry": {"title": "small run"}}
    assert entry == {"type": "datafile", "experiment": "IPTS-1", "location": str(five[3]), "metadata": title}


@pytest.mark.parametrize(
    "query",
    ["projection=location&projection=location.a.b", "projection=location.a.b&projection=location", "projection=...",
     "projection=", "projection=metadata&projection=metadata.entry.title", "projection=id.x", "projection=%00",
     "projection=tags.0", "projection=__class__", "projection=" + "a." * 3000],
)  # fmt: skip
def test_odd_projections_do_no_harm(catalog: Website, five: list[Path], query: str) -> None:
    answer = catalog.get(f"{RUNS}&{query}")
    assert answer.status_code == 200
    assert all(set(entry) >= {"id", "type"} for entry in answer.json())


@pytest.mark.parametrize(
    "query",
    ["ranges_q=x", "ranges_q=indexed.run_number", "ranges_q=indexed.run_number:", "ranges_q=indexed.run_number:a",
     "ranges_q=indexed.run_number:1-", "ranges_q=indexed.run_number:-1", "ranges_q=metadata.entry.duration:1",
     "ranges_q=indexed.run_number:%C2%B2", "ranges_q=indexed.run_number:" + "9" * 40,
     "ranges_q=indexed.run_number:" + "1," * 500, "limit=%C2%B2", "limit=-1", "limit=x", "limit=" + "9" * 40, "skip=1.5",
     "ranges_q=indexed.run_number:1;DROP TABLE datafile"],
)  # fmt: skip
def test_a_query_that_cannot_be_understood_is_refused_with_a_sentence(catalog: Website, query: str) -> None:
    answer = catalog.get(f"{RUNS}&{query}")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("The query cannot be understood")


@pytest.mark.parametrize("value", ["%00", "%ff", "'", "a" * 5000, "%F0%9F%92%A5", "%ED%A0%80"])
def test_odd_values_find_nothing_and_do_no_harm(catalog: Website, five: list[Path], value: str) -> None:
    for key in ("facility", "instrument", "experiment", "exts", "tags", "sort_by"):
        assert catalog.get(f"/api/datafiles?{key}={value}&limit=1").status_code == 200
    for resource in ("reductions", "instruments", "experiments"):
        assert catalog.get(f"/api/{resource}?facility={value}&instrument={value}").status_code == 200


def test_a_list_has_at_most_a_hundred_entries_unless_more_are_asked_for(catalog: Website) -> None:
    names = (next(_names) for _ in range(130))
    values = ", ".join(f"('/made/{name}', 'SNS', 'MANY', 'IPTS-1', {name}, '', '{{}}')" for name in names)
    columns = "location, facility, instrument, experiment, run_number, ext, metadata"
    catalog.sql(f"INSERT INTO catalog.datafile ({columns}) VALUES {values} RETURNING id")
    assert len(catalog.get("/api/datafiles?instrument=MANY").json()) == 100
    assert len(catalog.get("/api/datafiles?instrument=MANY&limit=120").json()) == 120
    assert len(catalog.get("/api/datafiles?instrument=MANY&skip=100").json()) == 30
    assert catalog.get(f"/api/datafiles?instrument=MANY&skip={'9' * 18}").json() == []
    assert catalog.get("/api/datafiles?instrument=MANY&limit=0").json() == []


def test_one_entry_is_told_by_its_location(catalog: Website, five: list[Path]) -> None:
    found = catalog.get(f"/api/datafiles{quote(str(five[0]))}").json()
    assert (found["location"], found["type"]) == (str(five[0]), "datafile")
    projected: dict[str, Any] = catalog.get(f"/api/datafiles{quote(str(five[0]))}?projection=experiment").json()
    assert projected == {"id": found["id"], "type": "datafile", "experiment": "IPTS-1"}
    for path in ("/no/such", "/etc/passwd", "/%00", "/" + "x" * 5000):
        answer = catalog.get(f"/api/datafiles{path}")
        assert (answer.status_code, list(answer.json())) == (404, ["message"])


def test_instruments_and_experiments_are_those_with_data(catalog: Website, five: list[Path]) -> None:
    instruments = catalog.get("/api/instruments?facility=SNS").json()
    assert {"id": "QRY", "name": "QRY", "type": "instrument", "facility": "SNS"} in instruments
    assert catalog.get("/api/instruments?facility=HFIR").json() == []
    experiments = catalog.get("/api/experiments?facility=SNS&instrument=QRY").json()
    assert [(entry["id"], entry["size"]) for entry in experiments] == [("IPTS-2", 1), ("IPTS-1", 4)]


def test_reading_needs_a_token(catalog: Website, five: list[Path]) -> None:
    for path in (
        "/api/datafiles",
        f"/api/datafiles{quote(str(five[0]))}",
        "/api/reductions",
        "/api/instruments",
        "/nothing",
    ):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer"},
            catalog.bearer("livedata-tokens"),
        ):
            answer = catalog.get(path, headers=headers)
            assert (answer.status_code, list(answer.json())) == (401, ["message"])
        assert catalog.get("/api/datafiles", headers=catalog.bearer("catalog-token")).status_code == 200


def test_other_routes_and_methods_are_answered_in_json(catalog: Website) -> None:
    for path in ("/", "/api", "/api/", "/api/runs", "/admin/", "/api/datafiles/", "/static/x"):
        answer = catalog.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["message"]), path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        headers = catalog.bearer("catalog-token")
        answer = catalog.http.request(method, f"{catalog.url}/api/datafiles", headers=headers)
        assert (answer.status_code, list(answer.json())) == (405, ["message"])
