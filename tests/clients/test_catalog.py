from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from neutronflow.clients import catalog as module
from neutronflow.clients.catalog import CatalogClient, CatalogRefused, CatalogUnavailable
from tests.support.http import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACK_OFF_S", (0.0, 0.0))


def ingest(url: str, path: str) -> dict[str, Any]:
    async def once() -> dict[str, Any]:
        async with CatalogClient(url, "the-token") as catalog:
            return await catalog.ingest_datafile(path)

    return asyncio.run(once())


def test_a_path_is_percent_encoded_and_the_token_is_sent(server: Server) -> None:
    server.answers = [(200, {}, b'{"id": "1"}')]
    assert ingest(server.url, "/SNS/VENUS/IPTS-1/a b#c%25?d.nxs") == {"id": "1"}
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/datafiles/SNS/VENUS/IPTS-1/a%20b%23c%2525%3Fd.nxs/ingest")
    assert request.headers["authorization"] == "Bearer the-token"


def test_a_refusal_is_told_in_the_words_of_the_catalog_and_not_repeated(server: Server) -> None:
    server.answers = [(400, {}, b'{"message": "not a NeXus file."}')]
    with pytest.raises(CatalogRefused, match=r"does not take /SNS/x.nxs: not a NeXus file \(HTTP 400\)"):
        ingest(server.url, "/SNS/x.nxs")
    assert len(server.requests) == 1


def test_a_catalog_that_is_out_of_order_is_asked_again(server: Server) -> None:
    server.answers = [(503, {}, b"busy"), (502, {}, b""), (200, {}, b'{"id": "2"}')]
    assert ingest(server.url, "/SNS/x.nxs") == {"id": "2"}


def test_a_catalog_that_stays_away_is_named_with_its_address() -> None:
    with pytest.raises(CatalogUnavailable, match=r"http://127\.0\.0\.1:1: "):
        ingest("http://127.0.0.1:1", "/SNS/x.nxs")


def test_an_answer_that_is_no_object_does_no_harm(server: Server) -> None:
    server.answers = [(200, {}, b"<html>fine</html>")]
    assert ingest(server.url, "/SNS/x.nxs") == {}
