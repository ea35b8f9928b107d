"""Plots go out: who may read them, and that they come back as they were sent."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from tests.support.websites import PlotSite

Plot = Callable[[str], bytes]


@pytest.fixture
def shown(site: PlotSite, run: int, plot: Plot) -> str:
    """The path of a run's plot."""
    assert site.upload("HYS", run, plot("first")).status_code == 200
    return f"/plots/hys/{run}/update/html/"


def test_a_plot_comes_back_byte_for_byte_with_its_headers(site: PlotSite, run: int) -> None:
    content = "<div>µ \r\n\u2028</div>\x00  \n".encode()
    site.upload("HYS", run, content)
    answer = site.get(f"/plots/hys/{run}/update/html/", headers={**site.bearer(), "Accept-Encoding": "identity"})
    assert answer.content == content
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["etag"]


def test_stored_plots_are_confined_wherever_they_are_opened(site: PlotSite, shown: str) -> None:
    for answer in (site.get(shown), site.get("/plots/hys/999999/update/html/"), site.get("/healthz")):
        assert answer.headers["content-security-policy"] == "sandbox allow-scripts"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_head_tells_the_same_without_the_plot(site: PlotSite, shown: str) -> None:
    whole = site.get(shown, headers={**site.bearer(), "Accept-Encoding": "identity"})
    head = site.http.head(site.url + shown, headers={**site.bearer(), "Accept-Encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-type"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_unchanged_plot_is_not_sent_again(site: PlotSite, run: int, plot: Plot, encoding: str) -> None:
    path = f"/plots/hys/{run}/update/html/"
    site.upload("HYS", run, plot("x" * 5000))
    headers = {**site.bearer(), "Accept-Encoding": encoding}
    etag = site.get(path, headers=headers).headers["etag"]
    again = site.get(path, headers={**headers, "If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"
    assert site.get(path, headers={**headers, "If-None-Match": '"other"'}).status_code == 200
    site.upload("HYS", run, plot("y" * 5000))
    changed = site.get(path, headers={**headers, "If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_a_plot_is_compressed_when_the_client_can_read_that(site: PlotSite, run: int) -> None:
    content = b"<div>" + b"1,2,3," * 5000 + b"</div>"
    site.upload("HYS", run, content)
    path = f"{site.url}/plots/hys/{run}/update/html/"
    with site.http.stream("GET", path, headers={**site.bearer(), "Accept-Encoding": "gzip"}) as answer:
        body = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-length"] == str(len(body))
    assert len(body) < len(content) // 10
    assert gzip.decompress(body) == content
    assert "accept-encoding" in answer.headers["vary"].lower()


def test_without_a_plot_the_answer_names_instrument_and_run(site: PlotSite, run: int) -> None:
    for kind in ("html", "json"):
        answer = site.get(f"/plots/HyS/{run}/update/{kind}/")
        assert (answer.status_code, answer.text) == (404, f"No data available for HyS {run}")
        assert answer.headers["content-type"].startswith("text/plain")


def test_a_route_without_its_slash_or_a_service_that_is_none_is_not_found(site: PlotSite, shown: str, run: int) -> None:
    for path in (shown.rstrip("/"), f"/plots/hys/{run}/update/xml/", "/", "/plots/", "/admin/", "/static/x"):
        assert site.get(path).status_code == 404


def test_readers_are_the_service_and_those_with_a_token_for_the_run(site: PlotSite, shown: str, run: int) -> None:
    good = [
        site.bearer("service-token"),
        site.token("plot-read", instrument="HYS", run=str(run)),
        site.token("plot-read", instrument="hys", run=str(run)),
        site.token("plot-read", instrument="*"),
        {"Authorization": site.key("hys", str(run))},
    ]
    for headers in good:
        assert site.get(shown, headers=headers).status_code == 200, headers
        assert site.get(shown.replace("update/html", "history"), headers=headers).status_code == 200, headers


def test_all_others_are_refused(site: PlotSite, shown: str, run: int) -> None:
    key = site.key("hys", str(run))
    bad = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nothing"},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": key[:-1]},
        {"Authorization": key.upper()},
        {"Authorization": site.key("hys", str(run + 1))},
        {"Authorization": site.key("seq", str(run))},
        site.bearer("catalog-token"),
        site.bearer("livedata-read-key"),
        site.upload_token("HYS", run),
        site.token("plot-read", instrument="HYS", run=str(run + 1)),
        site.token("plot-read", instrument="SEQ", run=str(run)),
        site.token("plot-read", instrument="HYS", run="*"),
        site.token("plot-read", lifetime_s=-1, instrument="*"),
        site.token("plot-read"),
    ]
    for headers in bad:
        answer = site.get(shown, headers=headers)
        assert (answer.status_code, b"Plotly" in answer.content) == (401, False), headers
        assert site.get(shown.replace("update/html", "history"), headers=headers).status_code == 401, headers


def test_a_refused_reader_learns_nothing_of_which_plots_exist(site: PlotSite, shown: str, run: int) -> None:
    there, not_there = (site.get(path, headers={}) for path in (shown, f"/plots/hys/{run + 500_000}/update/html/"))
    assert (there.status_code, there.content) == (not_there.status_code, not_there.content)


def test_the_key_of_todays_monitor_may_stand_in_the_query(site: PlotSite, shown: str, run: int) -> None:
    key = site.key("hys", str(run))
    assert site.get(f"{shown}?key={key}", headers={}).status_code == 200
    assert site.get(f"{shown}?key={key[::-1]}", headers={}).status_code == 401
    # A header that is there counts, whatever the query says.
    assert site.get(f"{shown}?key={key}", headers={"Authorization": "wrong"}).status_code == 401


def test_the_key_is_computed_over_the_run_as_it_is_written(site: PlotSite, shown: str, run: int) -> None:
    path = f"/plots/hys/00{run}/update/html/"
    assert site.get(path, headers={"Authorization": site.key("hys", f"00{run}")}).status_code == 200
    assert site.get(path, headers={"Authorization": site.key("hys", str(run))}).status_code == 401


def test_the_newest_plot_is_shown_and_ten_versions_are_kept(site: PlotSite, run: int, plot: Plot) -> None:
    for number in range(12):
        assert site.upload("HYS", run, plot(f"number {number}")).status_code == 200
    assert site.get(f"/plots/hys/{run}/update/html/").content == plot("number 11")
    versions = site.get(f"/plots/HYS/{run}/history/").json()
    assert len(versions) == 10
    assert [v["version"] for v in versions] == sorted((v["version"] for v in versions), reverse=True)
    assert {v["kind"] for v in versions} == {"html"}
    assert all(v["created_at"].endswith("Z") or "+00:00" in v["created_at"] for v in versions)
    for number, version in zip(range(11, 1, -1), versions, strict=True):
        answer = site.get(f"/plots/hys/{run}/update/html/?version={version['version']}")
        assert answer.content == plot(f"number {number}")


def test_a_version_of_another_run_or_none_at_all_is_not_found(site: PlotSite, shown: str, run: int, plot: Plot) -> None:
    site.upload("HYS", run + 700_000, plot("another"))
    other = site.get(f"/plots/hys/{run + 700_000}/history/").json()[0]["version"]
    for version in (str(other), "0", "-1", "9" * 18, "9" * 40, "x", "1 OR 1=1", "%C2%B2", "%D9%A1", "%00"):
        assert site.get(f"{shown}?version={version}").status_code == 404, version


def test_json_and_html_are_kept_apart_and_the_newest_decides(site: PlotSite, run: int) -> None:
    site.upload("HYS", run, b"<div></div>")
    site.upload("HYS", run, b'{"a": [1.0]}')
    answer = site.get(f"/plots/hys/{run}/update/json/")
    assert (answer.content, answer.headers["content-type"]) == (b'{"a": [1.0]}', "application/json")
    assert site.get(f"/plots/hys/{run}/update/html/").status_code == 404


def test_only_the_monitors_pages_may_fetch_plots_from_a_browser(site: PlotSite, run: int, plot: Plot) -> None:
    site.upload("HYS", run, plot("long enough to be compressed" * 100))
    shown = f"/plots/hys/{run}/update/html/"
    ours = site.get(shown, headers={**site.bearer(), "Origin": "https://monitor.example", "Accept-Encoding": "gzip"})
    assert ours.headers["access-control-allow-origin"] == "https://monitor.example"
    assert {"origin", "accept-encoding"} <= {part.strip().lower() for part in ours.headers["vary"].split(",")}
    for origin in ("https://evil.example", "null", "https://monitor.example.evil", ""):
        other = site.get(shown, headers={**site.bearer(), "Origin": origin})
        assert "access-control-allow-origin" not in other.headers
    # Caches must not hand the answer to one origin to another.
    assert "origin" in site.get(shown).headers["vary"].lower()


def test_a_browser_may_ask_first(site: PlotSite, shown: str) -> None:
    asking = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    answer = site.http.options(site.url + shown, headers={"Origin": "https://monitor.example", **asking})
    assert answer.is_success
    assert answer.headers["access-control-allow-origin"] == "https://monitor.example"
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    other = site.http.options(site.url + shown, headers={"Origin": "https://evil.example", **asking})
    assert "access-control-allow-origin" not in other.headers


def test_a_host_name_that_is_not_ours_is_refused(site: PlotSite, shown: str) -> None:
    assert site.get(shown, headers={**site.bearer(), "Host": "evil.example"}).status_code == 400
    assert site.get(shown, headers={**site.bearer(), "Host": "localhost"}).status_code == 200


def test_reading_by_another_method_is_refused(site: PlotSite, shown: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        assert site.http.request(method, site.url + shown, headers=site.bearer()).status_code == 405


def test_what_is_no_request_does_no_harm(site: PlotSite, shown: str) -> None:
    for request in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /plots/hys/1/update/html/ HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /plots/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xb2\r\n\r\n",
    ):
        answer = site.raw(request)
        assert answer == b"" or answer.split(b" ")[1][:1] == b"4", answer
    assert site.get(shown).status_code == 200
