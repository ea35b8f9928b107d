"""Reduced data come into the catalog by the document that describes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.websites import Website

Write = Callable[..., Path]


@pytest.fixture
def write(catalog: Website, run: int) -> Write:
    """Writes the document of this test's run, with changes (None: without it) or as these bytes."""

    def do(content: bytes | None = None, **changes: Any) -> Path:
        path = catalog.archive / f"SNS/HYS/IPTS-12345/shared/autoreduce/HYS_{run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = str(catalog.archive / f"SNS/HYS/IPTS-12345/nexus/HYS_{run}.nxs.h5")
        document = {
            "version": "1.0",
            "input_files": [{"location": raw, "type": "raw", "purpose": "sample-data"}],
            "output_files": [
                {"location": f"{path.parent}/HYS_{run}.nxs", "type": "processed", "purpose": "reduced-data"}
            ],
            "created": "2026-11-23T00:30:00+00:00",
            "user": "auto",
            "metadata": {"total_counts": 171_200},
            **changes,
        }
        kept = {key: value for key, value in document.items() if value is not None}
        path.write_bytes(content if content is not None else json.dumps(kept).encode())
        return path

    return do


def ingest(catalog: Website, path: Path) -> httpx.Response:
    url = f"{catalog.url}/api/reductions{quote(str(path))}/ingest"
    return catalog.http.post(url, headers=catalog.bearer("catalog-token"))


def test_a_reduction_is_cataloged_with_its_files_and_its_run(catalog: Website, write: Write, run: int) -> None:
    path = write()
    answer = ingest(catalog, path)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["type"], found["location"], found["indexed"]) == ("reduction", str(path), {"run_number": run})
    assert (found["facility"], found["instrument"], found["experiment"]) == ("SNS", "HYS", "IPTS-12345")
    assert found["input_files"][0]["purpose"] == "sample-data"
    assert found["output_files"][0]["location"].endswith(f"HYS_{run}.nxs")
    assert found["metadata"] == {"total_counts": 171_200}
    query = f"facility=SNS&instrument=hys&ranges_q=indexed.run_number:{run}"
    assert catalog.get(f"/api/reductions?{query}").json() == [found]
    assert catalog.get(f"/api/datafiles?{query}").json() == []


def test_a_reduction_that_is_repeated_renews_its_entry(catalog: Website, write: Write) -> None:
    first = ingest(catalog, write()).json()
    second = ingest(catalog, write(metadata={"total_counts": 1})).json()
    assert (second["id"], second["metadata"]) == (first["id"], {"total_counts": 1})


@pytest.mark.parametrize("left_out", ["version", "created", "user", "metadata"])
def test_what_the_catalog_does_not_need_may_be_missing(catalog: Website, write: Write, left_out: str) -> None:
    assert ingest(catalog, write(**{left_out: None})).status_code == 200


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"input_files": None}, "input_files"),
        ({"output_files": []}, "output_files"),
        ({"input_files": [{"location": "/SNS/x", "type": "imagined"}]}, "type"),
        ({"input_files": [{"location": "relative/path", "type": "raw"}]}, "location"),
        ({"input_files": [{"type": "raw"}]}, "location"),
        ({"input_files": "all"}, "input_files"),
        ({"output_files": [{"location": "/SNS/x", "type": "processed", "purpose": "Not Kebab"}]}, "purpose"),
        ({"created": "yesterday"}, "created"),
        ({"created": "2026-11-23T00:30:00"}, "created"),
        ({"user": "Some Body"}, "user"),
        ({"metadata": [1]}, "metadata"),
    ],
)
def test_a_document_that_cannot_be_is_refused_naming_the_field(
    catalog: Website, write: Write, changes: dict[str, Any], named: str
) -> None:
    answer = ingest(catalog, write(**changes))
    assert answer.status_code == 400
    assert named in answer.json()["message"]
    assert answer.json()["message"].startswith("The reduction document")


@pytest.mark.parametrize(
    "content", [b"", b"not JSON", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 50_000, b"x" * 1_000_001]
)
def test_a_document_that_is_none_is_refused(catalog: Website, write: Write, content: bytes) -> None:
    answer = ingest(catalog, write(content))
    assert answer.status_code == 400
    assert len(answer.content) < 2000


def test_texts_that_the_database_cannot_hold_are_mended(catalog: Website, write: Write) -> None:
    answer = ingest(catalog, write(metadata={"nul\0": "a\0b", "deep": [{"half": "\ud800"}], "large": 2**80}))
    assert answer.status_code in (200, 400)
    answer = ingest(catalog, write(metadata={"nul\0": "a\0b"}))
    assert answer.status_code == 200
    assert answer.json()["metadata"] == {"nul\ufffd": "a\ufffdb"}


def test_metadata_may_lie_as_deep_as_json_can_be_read(catalog: Website, write: Write) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    assert ingest(catalog, write(metadata={"deep": deep})).status_code in (200, 400)
    assert catalog.get("/healthz").status_code == 200
