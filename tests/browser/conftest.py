"""A real browser on a real monitor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import Monitor
from tests.support.postgres import Cluster

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")

#: Keeps Chromium off the network.
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")  # its event loop must have ended before tests that run one of their own
def chromium() -> Iterator[playwright.Browser]:
    """Chromium, if there is one."""
    program = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if program is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def monitor(
    cluster: Cluster, _migrated_template: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Monitor]:
    """A running monitor with a live data server."""
    conninfo = cluster.create_database(request.module.__name__.replace(".", "_"), _migrated_template)
    place = Monitor(tmp_path_factory.mktemp("monitor"), conninfo)
    place.prepare_roles()
    try:
        place.start_livedata()
        place.start("monitor")
        yield place
    finally:
        place.end_all()


class Person:
    """Someone at a browser, who has logged in by a link. What the browser complains of is kept."""

    def __init__(self, monitor: Monitor, context: playwright.BrowserContext) -> None:
        self.monitor = monitor
        self.context = context
        self.complaints: list[str] = []
        self.page = self.tab()
        self.page.goto(monitor.login_link())
        self.page.get_by_role("button", name="Log in as admin").click()
        self.is_live()

    def tab(self) -> playwright.Page:
        page = self.context.new_page()
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def go(self, path: str) -> playwright.Page:
        self.page.goto(self.monitor.url(path))
        self.is_live()
        return self.page

    def is_live(self) -> None:
        self.page.wait_for_selector("#live[data-state=live]")


@pytest.fixture
def person(monitor: Monitor, chromium: playwright.Browser, tmp_path: Path) -> Iterator[Person]:
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    context.set_default_timeout(15_000)
    try:
        someone = Person(monitor, context)
        yield someone
        assert someone.complaints == []
    finally:
        context.close()
