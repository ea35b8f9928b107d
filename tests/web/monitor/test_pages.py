"""The pages, of a real server on a real database."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support.pages import Monitor

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 }}{% x %}"


def story(monitor: Monitor, number: int, instrument: str, **more: str) -> int:
    """A run that failed twice in its reduction."""
    run = monitor.run(number, instrument, "failed")
    monitor.step(run, "catalog_raw", "complete")
    monitor.step(run, "reduce", "failed", 1, error="REDUCTION: TimeoutError: the first")
    monitor.step(run, "reduce", "failed", 2, error=more.get("error", "REDUCTION: KeyError: 'x' (exit code 1)"))
    monitor.step(run, "catalog_reduced", "skipped")
    monitor.event(run, "POSTPROCESS.DATA_READY", more.get("error", "cycle 1 began"))
    return run


def test_every_page_needs_a_login_and_remembers_where_one_wanted_to_go(monitor: Monitor) -> None:
    for path in ("/", "/instruments/", "/instruments/SNS/HYS/", "/instruments/SNS/HYS/runs/1/", "/services/"):
        answer = httpx.get(monitor.url(path), timeout=20)
        assert answer.status_code == 302, path
        assert answer.headers["location"] == f"/login/?next={path}"


def test_fragments_and_events_answer_401_without_a_login(monitor: Monitor) -> None:
    for path in ("/events", "/instruments/"):
        assert httpx.get(monitor.url(path), headers={"HX-Request": "true"}, timeout=20).status_code == 401


def test_healthz_needs_no_login(monitor: Monitor) -> None:
    assert httpx.get(monitor.url("/healthz"), timeout=20).json() == {"ok": True}


def test_pages_run_no_inline_scripts_and_cannot_be_framed(browser: httpx.Client) -> None:
    answer = browser.get("/instruments/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "<style" not in answer.text
    assert " style=" not in answer.text
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", answer.text))


def test_static_files_may_be_kept_and_come_from_our_own_origin(browser: httpx.Client) -> None:
    page = browser.get("/instruments/").text
    addresses = set(re.findall(r'(?:src|href)="(/static/[^"#]+)', page))
    assert any("htmx" in address for address in addresses)
    for address in addresses:
        answer = httpx.get(browser.base_url.join(address), timeout=20)
        assert answer.status_code == 200, address
        assert "max-age=31536000" in answer.headers["cache-control"]
    for wrong in ("/static/nothing.js", "/static/../settings.py", "/static/%2e%2e/settings.py"):
        assert httpx.get(browser.base_url.join(wrong), timeout=20).status_code in (302, 404)


def test_plotly_is_served_from_its_package(browser: httpx.Client) -> None:
    with httpx.stream("GET", browser.base_url.join("/static/plotly.min.js"), timeout=20) as answer:
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) > 1_000_000


def test_an_empty_database_says_how_to_begin(browser: httpx.Client) -> None:
    assert "neutronflow replay" in browser.get("/instruments/").text
    assert "No heartbeat yet" in browser.get("/services/").text


def test_the_instruments_show_their_last_run_and_what_failed(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.run(1, "ALPHA", "complete", ago_s=400)
    monitor.run(2, "ALPHA", "failed", ago_s=300)
    monitor.run(3, "ALPHA", "failed", ago_s=90_000)
    monitor.run(4, "ALPHA", "processing", ago_s=5)
    row = re.search(r"<tr data-row>(?:(?!</tr>).)*ALPHA.*?</tr>", browser.get("/instruments/").text, re.DOTALL)
    assert row
    assert "<b>processing</b>" in row[0]
    assert 'runs/4/"' in row[0]
    assert re.search(r"</svg>1<span", row[0]), "one failed in the last day"


def test_a_run_page_tells_what_happened(monitor: Monitor, browser: httpx.Client) -> None:
    run = story(monitor, 11, "BETA")
    report = monitor.report(run, "reduce", "first\nKeyError: 'x'\n", attempt=2, exit_code=1)
    monitor.run(9, "BETA")
    monitor.run(15, "BETA")
    page = browser.get("/instruments/SNS/BETA/runs/11/").text
    assert "<title>BETA 11: failed" in page
    assert "KeyError: &#x27;x&#x27; (exit code 1)" in page
    assert "The script stumbled over the data" in page
    assert "1 earlier attempt" in page
    assert "the first" in page
    assert 'href="/instruments/SNS/BETA/runs/9/"' in page
    assert 'href="/instruments/SNS/BETA/runs/15/"' in page
    assert f'hx-get="/instruments/SNS/BETA/runs/11/logs/{report}/"' in page
    log = browser.get(f"/instruments/SNS/BETA/runs/11/logs/{report}/", headers={"HX-Request": "true"}).text
    assert 'id="reduce-L2" class="error"' in log
    assert "<html" not in log
    raw = browser.get(f"/instruments/SNS/BETA/runs/11/logs/{report}/?raw")
    assert raw.text == "first\nKeyError: 'x'\n"
    assert raw.headers["content-disposition"].startswith("attachment")


def test_a_page_says_when_its_plot_may_be_of_an_earlier_attempt(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(1, "NOTES", "processing")
    monitor.step(run, "reduce", "complete", 1)
    page = "/instruments/SNS/NOTES/runs/1/"
    assert "of an earlier one" not in browser.get(page).text
    monitor.step(run, "reduce", "started", 2)
    assert "A new reduction is not done yet" in browser.get(page).text
    monitor.sql_do("UPDATE step SET state = 'failed', ended_at = now() WHERE attempt = 2 AND run_id = %s", run)
    assert "The newest reduction has failed" in browser.get(page).text


def test_the_time_of_a_running_step_counts_on(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(2, "NOTES", "processing")
    monitor.step(run, "reduce", "started", ago_s=30)
    assert re.search(r"<time data-lasts datetime=[^>]+>28 s</time>", browser.get("/instruments/SNS/NOTES/runs/2/").text)


def test_text_from_outside_is_only_ever_text(monitor: Monitor, browser: httpx.Client) -> None:
    run = story(monitor, 12, "GAMMA", error=HOSTILE)
    report = monitor.report(
        run, "reduce", HOSTILE, [{"path": f"/x/{HOSTILE}", "size": 1, "kind": HOSTILE}], agent=HOSTILE
    )
    monitor.sql_do("INSERT INTO service_status (name, role, status) VALUES (%s, %s, %s)", HOSTILE, "agent", HOSTILE)
    for path in (
        "/services/",
        "/instruments/SNS/GAMMA/",
        "/instruments/SNS/GAMMA/runs/12/",
        f"/instruments/SNS/GAMMA/runs/12/logs/{report}/",
    ):
        page = browser.get(path).text
        assert "alert(1)" in page, path
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert "{{ 7 }}" in page, path
    assert "<script>" not in browser.get("/instruments/SNS/GAMMA/", params={"q": HOSTILE}).text


def test_runs_are_found_by_number_range_experiment_and_state(monitor: Monitor, browser: httpx.Client) -> None:
    for number, state in ((1200, "complete"), (1215, "failed"), (1230, "complete"), (1300, "failed")):
        monitor.run(number, "DELTA", state, experiment="IPTS-77" if number == 1300 else "IPTS-5")

    def numbers(query: str) -> list[int]:
        page = browser.get(f"/instruments/SNS/DELTA/?{query}").text
        return sorted(int(number) for number in re.findall(r'id="r-(\d+)"', page))

    assert numbers("q=1200-1230") == [1200, 1215, 1230]
    assert numbers("q=1200-1230&state=failed") == [1215]
    assert numbers("state=failed&state=complete") == [1200, 1215, 1230, 1300]
    assert numbers("q=ipts-77") == [1300]
    assert numbers("q=99") == []
    assert numbers("state=nonsense") == [1200, 1215, 1230, 1300]
    assert "neither a run number" in browser.get("/instruments/SNS/DELTA/?q=%27%3B").text


def test_paging_shows_each_run_once_while_others_come(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.run(1, "PAGER")
    monitor.sql_do(
        "INSERT INTO run (instrument_id, run_number, state, created_at) SELECT instrument_id, n, 'complete',"
        # Groups of runs that came in one transaction, and so at the same time.
        " now() - (n / 7) * interval '1 s' FROM run, generate_series(2, 120) n WHERE instrument_id ="
        " (SELECT id FROM instrument WHERE name = 'PAGER')"
    )
    seen: list[int] = []
    address, pages, last = "", 0, ""
    while pages < 10:
        page = browser.get(f"/instruments/SNS/PAGER/{address}").text
        seen += [int(number) for number in re.findall(r'id="r-(\d+)"', page)]
        pages += 1
        monitor.run(1000 + pages, "PAGER", ago_s=0)
        newer = re.search(r'rel="prev" href="([^"]+)"', page)
        last = newer[1].replace("&amp;", "&") if newer else ""
        found = re.search(r'rel="next" href="([^"]+)"', page)
        if not found:
            break
        address = found[1].replace("&amp;", "&")
    assert pages == 3
    assert sorted(seen) == list(range(1, 121))
    back = [int(number) for number in re.findall(r'id="r-(\d+)"', browser.get(f"/instruments/SNS/PAGER/{last}").text)]
    assert back == seen[50:100]


@pytest.mark.parametrize(
    "path",
    [
        "/instruments/SNS/NOWHERE/",
        "/instruments/SNS/NOWHERE/runs/1/",
        "/instruments/SNS/ALPHA/runs/999999/",
        "/instruments/SNS/ALPHA/runs/999999999999999999/",
        "/instruments/SNS/ALPHA/runs/9999999999999999999999/",
        "/instruments/SNS/ALPHA/runs/1/logs/1/",
        "/instruments/SNS/../runs/1/",
        "/nothing/",
    ],
)
def test_what_is_not_there_is_answered_in_the_same_words(monitor: Monitor, browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404
    assert "There is no such page, or it is not for you." in answer.text


def test_names_may_be_written_in_lower_case(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.run(3, "LOWER")
    assert browser.get("/instruments/sns/lower/runs/3/").status_code == 200


def test_a_page_keeps_the_chosen_theme(browser: httpx.Client) -> None:
    assert (
        'data-theme="dark"'
        in browser.get("/instruments/", headers={"Cookie": f"nf-theme=dark; {_cookie(browser)}"}).text
    )
    wrong = browser.get("/instruments/", headers={"Cookie": f'nf-theme=">x; {_cookie(browser)}'}).text
    assert "data-theme" not in wrong


def _cookie(browser: httpx.Client) -> str:
    return f"sessionid={browser.cookies['sessionid']}"


def test_services_say_how_long_ago_they_were_heard(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.sql_do(
        "INSERT INTO service_status (name, role, last_seen) VALUES ('fresh', 'agent', now()),"
        " ('older', 'agent', now() - interval '2 min'), ('gone', 'agent', now() - interval '1 h')"
    )
    page = browser.get("/services/").text
    for name, word in (("fresh", "alive"), ("older", "late"), ("gone", "silent")):
        assert re.search(rf"{name}</th>(?:(?!</tr>).)*<b>{word}</b>", page, re.DOTALL), name


def test_a_run_whose_services_are_away_still_has_its_page(monitor: Monitor, browser: httpx.Client) -> None:
    story(monitor, 13, "AWAY")
    base = "/instruments/SNS/AWAY/runs/13/"
    assert browser.get(base).status_code == 200
    assert "live data server does not answer" in browser.get(f"{base}plot/card/").text
    assert "catalog does not answer" in browser.get(f"{base}catalog/").text
    assert browser.get(f"{base}plot/").status_code == 502
