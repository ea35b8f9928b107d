"""The stream of new plots, from which open pages learn."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.websites import PlotSite

DIV = b"<div>a plot</div>"
EVERYTHING = {"instrument": "*"}


class Listener:
    """A client of the stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()
        assert next(self._lines).startswith(":")  # the stream has begun

    def next(self) -> dict[str, Any]:
        """The next event: its fields, with ``data`` decoded."""
        fields: dict[str, Any] = {}
        for line in self._lines:
            if not line and "data" in fields:
                return {**fields, "data": json.loads(fields["data"])}
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        raise AssertionError("the stream has ended")

    def runs(self, count: int) -> list[int]:
        return [self.next()["data"]["run"] for _ in range(count)]


@contextlib.contextmanager
def listening(site: PlotSite, headers: dict[str, str] | None = None, **more: str) -> Iterator[Listener]:
    headers = headers or site.token("plot-read", **EVERYTHING)
    with site.http.stream("GET", f"{site.url}/plots/events", headers={**headers, **more}, timeout=10) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Listener(answer)


def test_a_new_plot_is_told_at_once_to_all_who_listen(site: PlotSite, run: int) -> None:
    # httpx accepts gzip: a stream that is compressed would arrive when it ends.
    with listening(site) as one, listening(site, site.bearer("service-token")) as other:
        site.upload("Hys", run, DIV)
        event = one.next()
        assert event["data"] == {"id": int(event["id"]), "instrument": "hys", "run": run}
        assert event["event"] == "plot"
        assert other.next() == event


def test_a_listener_that_comes_back_is_told_what_it_missed(site: PlotSite, run: int) -> None:
    with listening(site) as listener:
        site.upload("HYS", run, DIV)
        seen = listener.next()["id"]
    for number in range(3):
        site.upload("HYS", 800_000 + 10 * run + number, DIV)
    with listening(site, **{"Last-Event-ID": seen}) as listener:
        assert listener.runs(3) == [800_000 + 10 * run + number for number in range(3)]
        site.upload("HYS", run, DIV)
        assert listener.runs(1) == [run]


def test_a_listener_without_a_past_is_told_only_what_is_new(site: PlotSite, run: int) -> None:
    site.upload("HYS", run + 850_000, DIV)
    with listening(site) as listener:
        site.upload("HYS", run, DIV)
        assert listener.runs(1) == [run]


@pytest.mark.parametrize("last", ["²", "x", "", "-1", "9" * 40, "1; DROP TABLE plot"])
def test_a_last_event_that_cannot_be_does_no_harm(site: PlotSite, run: int, last: str) -> None:
    headers = {**site.bearer(), "Last-Event-ID": last.encode("latin-1")}
    with site.http.stream("GET", f"{site.url}/plots/events", headers=headers, timeout=10) as answer:
        assert answer.status_code == 200
        listener = Listener(answer)
        site.upload("HYS", run, DIV)
        assert listener.runs(1) == [run]


def test_uploads_at_the_same_time_are_each_told_once_and_in_order(site: PlotSite, run: int) -> None:
    runs = [900_000 + 100 * run + number for number in range(16)]
    begin = threading.Barrier(len(runs))

    def upload(number: int) -> None:
        begin.wait()
        assert site.upload("HYS", number, DIV).status_code == 200

    with listening(site) as listener:
        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(upload, runs))
        events = [listener.next() for _ in runs]
    assert sorted(event["data"]["run"] for event in events) == runs
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))


def test_many_listeners_leave_the_database_to_others(site: PlotSite, run: int) -> None:
    with contextlib.ExitStack() as open_streams:
        listeners = [
            open_streams.enter_context(listening(site, **{"Last-Event-ID": "0"} if number % 2 else {}))
            for number in range(30)
        ]
        assert site.upload("HYS", run, DIV).status_code == 200
        assert site.get(f"/plots/hys/{run}/update/html/").content == DIV
        for listener in listeners:
            while listener.next()["data"]["run"] != run:
                pass


def test_who_may_not_read_all_plots_cannot_listen(site: PlotSite, run: int) -> None:
    bad = [
        {},
        site.token("plot-read", instrument="HYS", run=str(run)),
        site.token("plot-read", instrument="HYS", run="None"),
        site.token("plot-upload", instrument="*"),
        site.token("plot-read", lifetime_s=-1, instrument="*"),
        {"Authorization": site.key("*", "None")},
    ]
    for headers in bad:
        assert site.get("/plots/events", headers=headers).status_code == 401, headers
    assert site.get(f"/plots/events?key={site.key('*', 'None')}", headers={}).status_code == 401
