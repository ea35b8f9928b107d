"""The stream of changes, as browsers read it."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.pages import Monitor
from tests.support.postgres import Cluster, migrate, running_cluster
from tests.support.services import eventually


class Stream:
    """An open stream of events."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()

    def next(self, *kinds: str) -> dict[str, Any]:
        """The next event of these kinds: its kind, id and data."""
        event: dict[str, Any] = {"id": None}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "event":
                event["kind"] = value
            elif name == "id":
                event["id"] = int(value)
            elif name == "data":
                event["data"] = json.loads(value)
            elif not line:
                if event.get("kind") in kinds:
                    return event
                event = {"id": None}
        raise AssertionError(f"the stream ended without {kinds}")


@contextlib.contextmanager
def listening(client: httpx.Client, after: int | None = None) -> Iterator[Stream]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with client.stream("GET", "/events", headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield Stream(answer)


def test_a_change_is_told_with_its_id(monitor: Monitor, browser: httpx.Client) -> None:
    with listening(browser) as stream:
        stream.next("hello")
        number = monitor.announce(1001)
        event = stream.next("run")
        assert event == {
            "kind": "run",
            "id": number,
            "data": {"facility": "SNS", "instrument": "HYS", "run": 1001},
        }


def test_who_comes_back_is_told_what_was_missed_in_order(monitor: Monitor, browser: httpx.Client) -> None:
    with listening(browser) as keeps_the_feed_alive, listening(browser) as stream:
        keeps_the_feed_alive.next("hello")
        stream.next("hello")
        known = monitor.announce(1)
        stream.next("run")
        missed = [monitor.announce(number) for number in (2, 3, 4)]
        assert [keeps_the_feed_alive.next("run")["id"] for _ in range(4)] == [known, *missed]
        with listening(browser, after=known) as again:
            assert [again.next("run")["id"] for _ in missed] == missed
            assert again.next("hello")["data"] == {"id": missed[-1]}


def test_who_was_away_for_too_long_sees_so_by_the_newest_id(monitor: Monitor, browser: httpx.Client) -> None:
    newest = monitor.announce(5)
    with listening(browser, after=0) as stream:
        hello = stream.next("hello")
    assert hello["data"]["id"] == hello["id"] == newest


def test_many_open_streams_hold_no_database_connections(monitor: Monitor, browser: httpx.Client) -> None:
    with contextlib.ExitStack() as held:
        limits = httpx.Limits(max_connections=60)
        client = held.enter_context(
            httpx.Client(base_url=monitor.url(), cookies=browser.cookies, limits=limits, timeout=20)
        )
        streams = [held.enter_context(listening(client)) for _ in range(30)]
        for stream in streams:
            stream.next("hello")
        assert client.get("/instruments/").status_code == 200
        number = monitor.announce(7)
        for stream in streams:
            assert stream.next("run")["id"] == number
        held_open = monitor.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'nf_monitor'"
        )
        assert held_open[0][0] <= 9


def test_a_new_plot_is_told_without_an_id_of_its_own(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.start_livedata()
    with listening(browser) as stream:
        stream.next("plots")
        monitor.upload_plot(1001, '<div class="plotly-graph-div">one</div>')
        event = stream.next("plot")
    assert event == {"kind": "plot", "id": None, "data": {"instrument": "HYS", "run": 1001}}


def test_the_plots_card_changes_only_with_a_new_version(monitor: Monitor, browser: httpx.Client) -> None:
    base = "/instruments/SNS/HYS/runs/1001/plot/"
    card = browser.get(f"{base}card/")
    assert 'sandbox="allow-scripts"' in card.text
    version = card.text.split('name="have" value="')[1].split('"')[0]
    assert browser.get(f"{base}card/?have={version}").status_code == 204
    assert "No plot yet" in browser.get("/instruments/SNS/HYS/runs/1002/plot/card/").text


def test_a_plot_is_served_in_a_sandbox_that_reaches_nothing(monitor: Monitor, browser: httpx.Client) -> None:
    frame = browser.get("/instruments/SNS/HYS/runs/1001/plot/")
    assert "one</div>" in frame.text
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; ")
    assert "connect-src" not in policy
    assert "allow-same-origin" not in policy
    assert frame.headers["x-frame-options"] == "SAMEORIGIN"
    assert browser.get("/instruments/SNS/HYS/runs/77/plot/").status_code == 404
    assert httpx.get(monitor.url("/instruments/SNS/HYS/runs/1001/plot/"), timeout=20).status_code == 302


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Monitor]]:
    """A monitor on a PostgreSQL of its own, which a test may stop."""
    # What is committed has to survive the crash, the login for one.
    with running_cluster(synchronous_commit="on") as own:
        own.create_database("fragile")
        migrate(own, "fragile")
        place = Monitor(tmp_path_factory.mktemp("fragile"), own.conninfo("fragile"))
        place.prepare_roles()
        try:
            place.start("monitor")
            yield own, place
        finally:
            place.end_all()


def test_while_the_database_is_away_pages_say_so_and_everything_comes_back(fragile: tuple[Cluster, Monitor]) -> None:
    cluster, monitor = fragile
    monitor.run(1)
    with monitor.session() as client, listening(client) as stream:
        stream.next("hello")
        cluster.stop(signal.SIGQUIT)
        stream.next("away")
        answer = client.get("/instruments/")
        assert answer.status_code == 503
        assert "The database is away" in answer.text
        assert monitor.program("/api/runs/SNS/HYS/1").json()["error"]
        assert httpx.get(monitor.url("/healthz"), timeout=20).status_code == 503
        cluster.start()
        stream.next("hello")
        number = monitor.announce(1)
        assert stream.next("run")["id"] == number
        eventually(lambda: client.get("/instruments/").status_code == 200, "pages are back")
