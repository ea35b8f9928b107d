from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from tests.support.pages import Monitor, form_token


def post(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    token = form_token(client.get(path).text)
    return client.post(path, data={"csrfmiddlewaretoken": token, **fields})


@pytest.fixture
def stranger(monitor: Monitor) -> httpx.Client:
    with httpx.Client(base_url=monitor.url(), timeout=20) as client:
        yield client  # type: ignore[misc]


def set_password(monitor: Monitor, user: str, password: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "neutronflow.cli", "monitor", "--set-password", "--user", user]
    return subprocess.run(
        words, env=monitor.environ, input=f"{password}\n", capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def person(monitor: Monitor) -> str:
    """Someone with a password."""
    done = set_password(monitor, "ada", "correct horse")
    assert done.returncode == 0, done.stderr
    return "ada"


def test_a_link_logs_in_once_and_looking_at_it_does_not_use_it_up(monitor: Monitor, stranger: httpx.Client) -> None:
    link = monitor.login_link()
    for _ in range(3):
        assert "Log in as admin" in stranger.get(link).text
    answer = post(stranger, link)
    assert answer.headers["location"] == "/instruments/"
    assert stranger.get("/instruments/").status_code == 200
    again = httpx.get(link, timeout=20)
    assert again.status_code == 410
    assert "works once" in again.text


def test_a_link_that_has_expired_or_was_made_up_logs_nobody_in(monitor: Monitor, stranger: httpx.Client) -> None:
    link = monitor.login_link()
    token = form_token(stranger.get(link).text)
    monitor.sql_do("UPDATE login_link SET expires_at = now() - interval '1 s'")
    assert stranger.post(link, data={"csrfmiddlewaretoken": token}).status_code == 410
    assert stranger.get("/login/link/nonsense").status_code == 410
    assert stranger.get("/instruments/").status_code == 302


def test_only_a_hash_of_a_links_token_is_stored(monitor: Monitor) -> None:
    token = monitor.login_link().rsplit("/", 1)[1]
    assert len(token) > 30
    stored = monitor.sql("SELECT token_sha256 FROM login_link")
    assert all(len(row[0]) == 32 and token.encode() not in bytes(row[0]) for row in stored)


def test_a_link_for_nobody_is_refused_with_a_sentence(monitor: Monitor) -> None:
    words = [sys.executable, "-m", "neutronflow.cli", "monitor", "--login-link", "--user", "nobody"]
    done = subprocess.run(words, env=monitor.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "There is no active user 'nobody'." in done.stderr


def test_a_password_logs_in_and_a_wrong_one_does_not(stranger: httpx.Client, person: str) -> None:
    wrong = post(stranger, "/login/", username=person, password="wrong")
    assert wrong.status_code == 200
    assert "correct username and password" in wrong.text
    right = post(stranger, "/login/?next=/services/", username=person, password="correct horse", next="/services/")
    assert right.headers["location"] == "/services/"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_a_login_never_leads_elsewhere(stranger: httpx.Client, person: str, target: str) -> None:
    answer = post(stranger, "/login/", username=person, password="correct horse", next=target)
    assert answer.headers["location"] == "/instruments/"


def test_logging_out_is_a_post_with_a_token(stranger: httpx.Client, person: str) -> None:
    post(stranger, "/login/", username=person, password="correct horse")
    assert stranger.get("/logout/").status_code == 405
    refused = stranger.post("/logout/")
    assert refused.status_code == 403
    assert "The form was not accepted" in refused.text
    token = form_token(stranger.get("/instruments/").text)
    assert stranger.post("/logout/", data={"csrfmiddlewaretoken": token}).status_code == 302
    assert stranger.get("/instruments/").status_code == 302


def test_a_wrong_host_is_refused(monitor: Monitor) -> None:
    answer = httpx.get(monitor.url("/login/"), headers={"Host": "evil.example"}, timeout=20)
    assert answer.status_code == 400


def test_cookies_cannot_be_read_by_scripts(monitor: Monitor, stranger: httpx.Client) -> None:
    answer = post(stranger, monitor.login_link())
    cookies = answer.headers.get_list("set-cookie")
    assert any(cookie.startswith("sessionid=") for cookie in cookies)
    assert all("HttpOnly" in cookie and "SameSite=Lax" in cookie for cookie in cookies)


def test_a_password_that_is_easily_guessed_is_refused_with_the_reason(monitor: Monitor) -> None:
    for user, password, reason in (
        ("bob", "short", "too short"),
        ("bob", "password123", "too common"),
        ("", "x" * 12, ""),
    ):
        done = set_password(monitor, user, password)
        assert done.returncode == 2
        assert reason in done.stderr
    assert monitor.sql("SELECT 1 FROM person WHERE username IN ('bob', '')") == []


def test_guessing_passwords_is_stopped_and_hurts_nobody_else(stranger: httpx.Client, person: str) -> None:
    for _ in range(4):
        assert post(stranger, "/login/", username="eve", password="wrong").status_code == 200
    assert post(stranger, "/login/", username="EVE", password="wrong").status_code == 429
    assert post(stranger, "/login/", username=person, password="correct horse").status_code == 302
