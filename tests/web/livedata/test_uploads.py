"""Plots come in: who may send them, and what is refused."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.websites import PlotSite

DIV = b"<div>a plot</div>"
LIMIT = 2**20


def stored(site: PlotSite, run: int, kind: str = "html") -> httpx.Response:
    return site.get(f"/plots/hys/{run}/update/{kind}/")


def test_a_plot_with_a_token_for_its_run_is_stored(site: PlotSite, run: int) -> None:
    done = site.upload("HYS", run, DIV)
    assert (done.status_code, done.content) == (200, b"")
    assert stored(site, run).content == DIV


def test_a_plot_with_the_publishers_password_is_stored_without_a_session(site: PlotSite, run: int) -> None:
    done = site.upload("HYS", run, DIV, form=site.login())
    assert done.status_code == 200
    assert "set-cookie" not in done.headers
    assert stored(site, run).content == DIV


@pytest.mark.parametrize("given", [{"password": "wrong"}, {"password": ""}, {"username": "admin"}, {"username": ""}])
def test_another_login_is_refused(site: PlotSite, run: int, given: dict[str, str]) -> None:
    done = site.upload("HYS", run, DIV, form=site.login(**given))
    assert done.status_code == 401
    assert "www-authenticate" in done.headers
    assert stored(site, run).status_code == 404


def test_an_upload_without_credentials_is_refused(site: PlotSite, run: int) -> None:
    assert site.upload("HYS", run, DIV, headers={}).status_code == 401


def test_tokens_for_something_else_are_refused(site: PlotSite, run: int) -> None:
    valid = site.upload_token("HYS", run)["Authorization"]
    payload = valid.split(".")[1]
    bad = [
        site.upload_token("HYS", run + 100_000),
        site.upload_token("SEQ", run),
        site.token("plot-read", instrument="HYS", run=str(run)),
        site.token("plot-upload", instrument="*", run="*"),
        site.token("plot-upload", lifetime_s=-1, instrument="HYS", run=str(run)),
        site.token("plot-upload"),
        site.bearer("service-token"),
        site.bearer("livedata-tokens"),
        {"Authorization": valid[:-2]},
        {"Authorization": f"Bearer nf1.{payload}."},
        {"Authorization": f"Bearer nf1.{payload}.\u00e9"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic cHVibGlzaGVyOng="},
    ]
    for headers in bad:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        url = f"{site.url}/plots/HYS/{run}/upload_plot_data/"
        done = site.http.post(url, headers=raw, files={"file": DIV})
        assert done.status_code == 401, headers
    assert stored(site, run).status_code == 404


def test_a_token_counts_more_than_a_login_in_the_form(site: PlotSite, run: int) -> None:
    wrong = site.upload_token("HYS", run + 1)
    assert site.upload("HYS", run, DIV, headers=wrong, form=site.login()).status_code == 401


@pytest.mark.parametrize(
    "content",
    [b"", b"just words", b"\xff\xfe\x00 not a plot", b"<p>no</p>", b'{"cut": [1, 2', b"[" * 100_000, b"\x89PNG\r\n\x1a\n"],
)  # fmt: skip
def test_what_is_no_plot_is_refused_with_a_sentence(site: PlotSite, run: int, content: bytes) -> None:
    done = site.upload("HYS", run, content)
    assert done.status_code == 400
    assert done.headers["content-type"].startswith("text/plain")
    assert "plot" in done.text
    assert done.text.endswith(".")
    assert stored(site, run).status_code == 404


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (DIV, "html"),
        (b"\n  <!DOCTYPE html><html><body><div>x</div></body></html>", "html"),
        (b"\xef\xbb\xbf<div>with a byte order mark</div>", "html"),
        (b'{"data": {"q": [1, 2]}}', "json"),
        (b"[1, 2, 3]", "json"),
    ],
)
def test_the_type_of_a_plot_is_seen_from_what_it_is(site: PlotSite, run: int, content: bytes, kind: str) -> None:
    assert site.upload("HYS", run, content).status_code == 200
    assert stored(site, run, kind).content == content
    assert stored(site, run, "json" if kind == "html" else "html").status_code == 404


@pytest.mark.parametrize(
    ("data_type", "kind"), [("0", "json"), ("json", "json"), ("1", "html"), ("html", "html"), ("div", "html")]
)
def test_the_type_of_a_plot_can_be_told(site: PlotSite, run: int, data_type: str, kind: str) -> None:
    content = b'"<div></div>"'  # both JSON and HTML
    assert site.upload("HYS", run, content, form={"data_type": data_type}).status_code == 200
    assert stored(site, run, kind).content == content


@pytest.mark.parametrize("data_type", ["2", "-1", "plotly", "<b>"])
def test_a_type_that_does_not_exist_is_refused(site: PlotSite, run: int, data_type: str) -> None:
    done = site.upload("HYS", run, DIV, form={"data_type": data_type})
    assert done.status_code == 400
    assert "data type" in done.text


def test_a_form_without_a_file_is_refused(site: PlotSite, run: int) -> None:
    url, headers = f"{site.url}/plots/HYS/{run}/upload_plot_data/", site.upload_token("HYS", run)
    for options in (
        {},
        {"data": {"file": "<div>a field, not a file</div>"}},
        {"files": {"other": DIV}},
        {"content": DIV, "headers": {**headers, "Content-Type": "text/html"}},
    ):
        done = site.http.post(url, **{"headers": headers, **options})
        assert done.status_code == 400, options
        assert "file" in done.text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=" + "b" * 300, b"--b\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=file"),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 5000),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; "
         b'name="file"; filename="f"\r\n\r\n!!!!\r\n--x--\r\n'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 3000 + b"--x--"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % number for number in range(5000))),
    ],
)  # fmt: skip
def test_a_malformed_form_is_a_bad_request(site: PlotSite, run: int, content_type: str, body: bytes) -> None:
    headers = {**site.upload_token("HYS", run), "Content-Type": content_type}
    url = f"{site.url}/plots/HYS/{run}/upload_plot_data/"
    assert site.http.post(url, headers=headers, content=body).status_code == 400
    assert stored(site, run).status_code == 404


@pytest.mark.parametrize("filename", ["../../../etc/passwd", "a\\b\\c", "\x01\x02", "é" * 200, "x" * 5000])
def test_the_name_of_the_file_plays_no_part(site: PlotSite, run: int, filename: str) -> None:
    files = {"file": (filename, DIV)}
    url, headers = f"{site.url}/plots/HYS/{run}/upload_plot_data/", site.upload_token("HYS", run)
    assert site.http.post(url, headers=headers, files=files).status_code in (200, 400)


@pytest.mark.parametrize(
    ("instrument", "run_number"),
    [("HYS", str(2**63)), ("HYS", "9" * 19), ("HYS", "9" * 40), ("HYS", "-1"), ("HYS", "1.5"), ("HYS", "%D9%A1"),
     ("h%20s", "1"), ("..%2f..%2fetc", "1"), ("h" * 129, "1"), ("%3Cscript%3E", "1"), ("h%00", "1")],
)  # fmt: skip
def test_names_that_cannot_be_are_not_found(site: PlotSite, instrument: str, run_number: str) -> None:
    done = site.upload(instrument, run_number, DIV, headers=site.upload_token(instrument, run_number))
    assert done.status_code == 404
    assert site.get(f"/plots/{instrument}/{run_number}/update/html/").status_code == 404
    assert site.get(f"/plots/{instrument}/{run_number}/history/").status_code in (401, 404)


def test_instruments_have_hyphens_and_no_case(site: PlotSite, run: int) -> None:
    assert site.upload("Beta-2", run, DIV, headers=site.upload_token("BETA-2", run)).status_code == 200
    assert site.get(f"/plots/bETA-2/{run}/update/html/").content == DIV


def test_only_posts_upload(site: PlotSite, run: int) -> None:
    assert site.get(f"/plots/HYS/{run}/upload_plot_data/").status_code == 405


def test_a_plot_up_to_the_limit_is_stored_and_a_longer_one_refused(site: PlotSite, run: int) -> None:
    just = b"<div>" + b"x" * (LIMIT - 11) + b"</div>"
    assert len(just) == LIMIT
    assert site.upload("HYS", run, just).status_code == 200
    assert stored(site, run).content == just
    assert site.upload("HYS", run, b" " * 70_000 + just).status_code == 413
    assert site.upload("HYS", run, b" " + just).status_code == 413
    assert stored(site, run).content == just


def test_a_body_without_a_length_is_refused_when_it_gets_too_long(site: PlotSite, run: int) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n<div>'
        while sent < 64 * LIMIT:
            sent += 65536
            yield b"x" * 65536

    headers = {**site.upload_token("HYS", run), "Content-Type": "multipart/form-data; boundary=x"}
    try:
        done = site.http.post(
            f"{site.url}/plots/HYS/{run}/upload_plot_data/", headers=headers, content=endless(), timeout=20
        )
    except httpx.TransportError:
        pytest.fail(f"the connection broke after {sent} bytes, without an answer")
    assert done.status_code == 413
    assert stored(site, run).status_code == 404


def head_of_upload(site: PlotSite, run: int, length: int, headers: dict[str, str]) -> bytes:
    lines = [f"POST /plots/HYS/{run}/upload_plot_data/ HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += ["Content-Type: multipart/form-data; boundary=x", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_bad_token_and_a_long_body_are_refused_before_the_body_is_sent(site: PlotSite, run: int) -> None:
    other = site.upload_token("HYS", run + 1)
    for length, headers, status in [
        (500_000, {"Authorization": "Bearer nonsense"}, b"401"),
        (500_000, other, b"401"),
        (500_000, {**other, "Expect": "100-continue"}, b"401"),
        (10**12, site.upload_token("HYS", run), b"413"),
        (10**12, {}, b"413"),
    ]:
        answer = site.raw(head_of_upload(site, run, length, headers))
        assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(site: PlotSite, run: int) -> None:
    """urllib and requests do; a connection that is reset under them would look like a network failure."""
    body = b"x" * 900_000
    for length, headers, status in [
        (len(body), {"Authorization": "Bearer nonsense"}, b"401"),
        (4 * len(body), site.upload_token("HYS", run), b"413"),
    ]:
        with socket.create_connection(("127.0.0.1", site.settings.port("livedata")), timeout=10) as connection:
            connection.sendall(head_of_upload(site, run, length, headers))
            for _ in range(length // len(body)):
                connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_an_upload_that_breaks_off_leaves_nothing(site: PlotSite, run: int) -> None:
    with socket.create_connection(("127.0.0.1", site.settings.port("livedata")), timeout=10) as connection:
        connection.sendall(head_of_upload(site, run, 1000, site.upload_token("HYS", run)))
        connection.sendall(b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n<div>')
    assert stored(site, run).status_code == 404
    assert site.upload("HYS", run, DIV).status_code == 200


def test_uploads_of_one_run_at_the_same_time_all_become_versions(site: PlotSite, run: int) -> None:
    contents = [f"<div>{number}</div>".encode() for number in range(8)]
    begin = threading.Barrier(len(contents))

    def upload(content: bytes) -> int:
        begin.wait()
        return site.upload("hys", run, content).status_code

    with ThreadPoolExecutor(len(contents)) as pool:
        assert set(pool.map(upload, contents)) == {200}
    versions = site.get(f"/plots/HYS/{run}/history/").json()
    assert len(versions) == len({version["version"] for version in versions}) == len(contents)
    kept = {site.get(f"/plots/HYS/{run}/update/html/?version={v['version']}").content for v in versions}
    assert kept == set(contents)


def test_many_slow_uploads_do_not_keep_a_reader_waiting(site: PlotSite, run: int) -> None:
    site.upload("HYS", run, DIV)
    where = ("127.0.0.1", site.settings.port("livedata"))
    with contextlib.ExitStack() as slow:
        for _ in range(40):
            connection = slow.enter_context(socket.create_connection(where, timeout=10))
            connection.sendall(head_of_upload(site, run, 500_000, site.upload_token("HYS", run)) + b"--x")
        started = time.monotonic()
        assert stored(site, run).status_code == 200
        assert time.monotonic() - started < 2
