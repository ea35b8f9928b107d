"""What a person sees and does, in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import TYPE_CHECKING

import pytest

from neutronflow.clients.livedata import LivePublisher
from neutronflow.domain.facility import RunKey
from plot_publisher.figures import plotly_div
from tests.support.pages import Monitor
from tests.support.services import eventually

if TYPE_CHECKING:
    from tests.browser.conftest import Person

pytestmark = pytest.mark.browser


def run_under_way(monitor: Monitor, number: int) -> int:
    run = monitor.run(number, state="processing")
    monitor.step(run, "catalog_raw", "complete")
    monitor.step(run, "reduce", "started")
    monitor.step(run, "catalog_reduced", "waiting")
    return run


def test_a_run_page_changes_by_itself_and_loses_nothing(monitor: Monitor, person: Person) -> None:
    run = run_under_way(monitor, 1001)
    monitor.event(run, "POSTPROCESS.DATA_READY", "cycle 1 began")
    report = monitor.report(run, "catalog_raw", "".join(f"line {n}\n" for n in range(300)))
    page = person.go("/instruments/SNS/HYS/runs/1001/")
    assert page.locator("#reduce .badge b").inner_text() == "reducing"
    page.locator("#story > summary").click()
    page.locator(f"#log-{report} > summary").click()
    page.wait_for_selector("#catalog_raw-L300")
    page.locator("a[href='/services/']").focus()
    page.evaluate(
        "document.querySelector('.lines').scrollTop = 1234; window.notReloaded = true; window.scrollTo(0, 200)"
    )
    monitor.sql_do(
        "UPDATE step SET state = 'failed', state_since = now(), error = 'REDUCTION: <b>no</b>'"
        " WHERE run_id = %s AND name = 'reduce'",
        run,
    )
    monitor.sql_do("UPDATE run SET state = 'failed', state_since = now() WHERE id = %s", run)
    monitor.announce(1001)
    page.wait_for_selector("#run-head .badge.t-bad")
    page.wait_for_selector("#reduce.t-bad")
    assert page.locator("#reduce .notice p").first.inner_text() == "REDUCTION: <b>no</b>"
    assert page.evaluate("window.notReloaded")
    assert page.evaluate("window.scrollY") == 200
    assert page.locator("#story").get_attribute("open") is not None
    assert page.evaluate("document.querySelector('.lines').scrollTop") == 1234
    assert page.locator("a[href='/services/']").evaluate("link => link === document.activeElement")
    eventually(lambda: page.title().startswith("HYS 1001: failed"), "the title says so, too")


def test_a_plot_appears_by_itself_in_a_frame_that_reaches_nothing(monitor: Monitor, person: Person) -> None:
    run_under_way(monitor, 1002)
    page = person.go("/instruments/SNS/HYS/runs/1002/")
    page.get_by_text("No plot yet").wait_for()
    spy = """<script>
      try { document.title = parent.document.title } catch (error) { document.title = 'kept out' }
      fetch('/instruments/').then(() => document.title += ', but fetched', () => document.title += ', no network')
    </script>"""
    trace = {"type": "scatter", "mode": "lines", "x": [1, 2, 3], "y": [1, 4, 9]}
    monitor.upload_plot(1002, plotly_div([trace], {"title": {"text": "Run 1002"}}, width="100%") + spy)
    frame = page.frame_locator("iframe.frame")
    frame.locator("svg.main-svg").first.wait_for()
    assert frame.locator(".gtitle").text_content() == "Run 1002"
    eventually(lambda: frame.locator("head title").text_content() == "kept out, no network", "the plot is kept out")
    # Chromium says on the console what it has refused to the plot; of the page itself there is nothing.
    assert all(re.search("sandboxed|Content Security Policy|cross-origin", said) for said in person.complaints)
    person.complaints.clear()


def test_the_list_of_runs_shows_a_new_run_and_keeps_the_focus(monitor: Monitor, person: Person) -> None:
    monitor.run(2001, "LIST")
    page = person.go("/instruments/SNS/LIST/")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "r-2001"
    monitor.run(2002, "LIST", "failed", ago_s=0)
    monitor.announce(2002, instrument="LIST")
    page.wait_for_selector("#r-2002")
    assert page.evaluate("document.activeElement.id") == "r-2001"
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/instruments/SNS/LIST/runs/2002/")


def test_keys_do_what_the_help_says_and_can_be_turned_off(monitor: Monitor, person: Person) -> None:
    for number in (3001, 3002):
        monitor.run(number, "KEYS")
    page = person.go("/instruments/SNS/KEYS/runs/3002/")
    page.keyboard.press("j")
    page.wait_for_url("**/3001/")
    person.is_live()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard").wait_for()
    page.get_by_label("shortcuts are on").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("k")
    page.keyboard.press("?")
    assert page.url.endswith("/3001/")
    assert not page.get_by_role("dialog").is_visible()


def test_a_link_to_a_line_of_a_log_opens_the_log_there(monitor: Monitor, person: Person) -> None:
    run = monitor.run(4001, "LINES")
    monitor.step(run, "reduce", "complete")
    monitor.report(run, "reduce", "".join(f"line {n}\n" for n in range(1, 400)))
    page = person.go("/instruments/SNS/LINES/runs/4001/#reduce-L250")
    line = page.locator("#reduce-L250.marked")
    line.wait_for()
    assert line.locator("code").inner_text() == "line 250"
    eventually(lambda: page.evaluate("document.querySelector('.lines').scrollTop") > 1000, "it is in view")


def test_many_tabs_share_one_stream(monitor: Monitor, person: Person) -> None:
    run = run_under_way(monitor, 5001)
    tabs = [person.tab() for _ in range(9)]
    for tab in tabs:
        tab.goto(monitor.url("/instruments/SNS/HYS/runs/5001/"))
        tab.wait_for_selector("#live[data-state=live]")
    monitor.sql_do("UPDATE run SET state = 'complete', state_since = now() WHERE id = %s", run)
    monitor.announce(5001)
    for tab in tabs:
        tab.wait_for_selector("#run-head .badge.t-good")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_pages_can_be_read(monitor: Monitor, person: Person, scheme: str, width: int) -> None:
    """Titles, landmarks, names of controls, contrast of 4.5:1, nothing wider than the screen."""
    if not monitor.sql("SELECT 1 FROM run WHERE run_number = 6001"):
        run = monitor.run(6001, "READ", "failed")
        monitor.step(run, "catalog_raw", "complete")
        monitor.step(run, "reduce", "failed", error="REDUCTION: KeyError: 'x' (exit code 1)")
        monitor.step(run, "catalog_reduced", "skipped")
        monitor.report(run, "reduce", "WARNING: a\nTraceback\n\x1b[32mgreen\x1b[0m\n")
        monitor.sql_do(
            "INSERT INTO service_status (name, last_seen) VALUES ('x', now()), ('y', now() - interval '1 h')"
        )
    page = person.page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 844})
    for path in ("/instruments/", "/instruments/SNS/READ/", "/instruments/SNS/READ/runs/6001/", "/services/"):
        person.go(path)
        if path.endswith("6001/"):
            page.wait_for_selector(".lines li")
        assert page.title()
        assert page.locator("h1").count() == 1
        assert page.locator("main, header, nav[aria-label]").count() >= 3
        assert page.evaluate(_UNNAMED) == []
        assert page.evaluate(_PALE) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.evaluate("document.querySelector('h1').style.color = getComputedStyle(document.body).backgroundColor")
    assert page.evaluate(_PALE), "what cannot be read is found"


def test_a_page_says_since_when_it_is_stale(monitor: Monitor, person: Person) -> None:
    page = person.go("/instruments/")
    page.evaluate("window.notReloaded = true")
    port = monitor.settings.port("monitor")
    (process,) = [each for each in monitor.running() if "monitor" in each.args]  # type: ignore[operator]
    monitor.end(process)
    page.wait_for_selector("#live[data-state=reconnecting]")
    assert "was true at" in (page.locator("#live").get_attribute("title") or "")
    monitor.start("monitor")
    assert monitor.settings.port("monitor") == port
    person.is_live()
    monitor.run(7001, "BACK")
    monitor.announce(7001, instrument="BACK")
    page.wait_for_selector("#i-SNS-BACK")
    assert page.evaluate("window.notReloaded")
    person.complaints.clear()


_UNNAMED = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), iframe')].filter((each) => {
  const name = each.ariaLabel || each.title || each.innerText.trim() || each.textContent.trim()
    || [...(each.labels || [])].map((label) => label.textContent).join('');
  return !name;
}).map((each) => each.outerHTML)"""

_PALE = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const pale = [];
  for (const element of document.querySelectorAll('main *, header *, footer *')) {
    const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!said || !element.checkVisibility() || element.closest('.hidden, noscript')) continue;
    const [one, two] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) pale.push(ratio.toFixed(2) + ' ' + element.outerHTML.slice(0, 120));
  }
  return pale;
}"""


def test_an_instrument_page_shows_what_is_told_and_when_nothing_is_told_any_more(
    monitor: Monitor, person: Person
) -> None:
    monitor.run(6001, "NOW", "acquiring", cycle=0)
    monitor.told("NOW", recording="true", run_number="6001", count_rate="1000")
    monitor.pvs("NOW", *((f"pv{number}", 1.0, None, 0) for number in range(40)))
    page = person.go("/instruments/SNS/NOW/")
    page.locator("#all-pvs > summary").click()
    page.evaluate("window.notReloaded = true")
    monitor.told("NOW", count_rate="2000")
    monitor.announce(kind="instrument", instrument="NOW")
    page.get_by_text("2,000").wait_for()
    assert page.evaluate("window.notReloaded")
    assert page.locator("#all-pvs").get_attribute("open") is not None
    # A value of 17 s ago becomes stale on the page itself.
    monitor.told("NOW", ago_s=17, count_rate="3000")
    monitor.announce(kind="instrument", instrument="NOW")
    page.get_by_text("3,000").wait_for()
    rate = page.locator(".counts time").first
    assert rate.inner_text().endswith("s ago")
    eventually(lambda: rate.inner_text().startswith("stale since "), "the age becomes stale")
    for width, scheme in ((390, "dark"), (390, "light"), (1300, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_instruments_change_their_state_by_themselves(monitor: Monitor, person: Person) -> None:
    monitor.told("TURN", recording="false", count_rate="0")
    page = person.go("/instruments/")
    row = page.locator("tr", has=page.locator("#i-SNS-TURN"))
    assert row.locator(".badge b").first.inner_text() == "idle"
    monitor.told("TURN", recording="true", run_number="5", count_rate="77")
    monitor.announce(kind="instrument", instrument="TURN")
    row.get_by_text("recording").wait_for()
    assert "77 1/s" in row.inner_text()


def live_figure(total: int) -> bytes:
    layout = {"title": {"text": f"live: {total} counts"}, "height": 580}
    return json.dumps({"data": [{"y": [total, total]}], "layout": layout}).encode()


def test_a_live_picture_grows_in_its_frame_until_the_reduction_has_drawn(monitor: Monitor, person: Person) -> None:
    monitor.run(1300, state="acquiring")

    def publish(total: int) -> None:
        async def work() -> None:
            secret = monitor.settings.secret("livedata-tokens")
            async with LivePublisher(f"http://127.0.0.1:{monitor.settings.port('livedata')}", secret) as publisher:
                await publisher.publish(RunKey("SNS", "HYS", 1300), live_figure(total))

        # Playwright's own event loop runs in this thread.
        thread = threading.Thread(target=asyncio.run, args=(work(),))
        thread.start()
        thread.join()

    publish(1000)
    page = person.go("/instruments/SNS/HYS/runs/1300/")
    frame = page.frame_locator("iframe.frame")
    frame.locator(".gtitle", has_text="live: 1000 counts").wait_for()
    assert "live" in page.locator(".plot-head").inner_text()
    page.frames[-1].evaluate("window.notReloaded = true")
    publish(2000)
    frame.locator(".gtitle", has_text="live: 2000 counts").wait_for()
    assert page.frames[-1].evaluate("window.notReloaded")
    monitor.upload_plot(1300, plotly_div([{"y": [1, 2]}], {"title": {"text": "reduced"}}))
    frame.locator(".gtitle", has_text="reduced").wait_for()
    assert "live" not in page.locator(".plot-head").inner_text()
