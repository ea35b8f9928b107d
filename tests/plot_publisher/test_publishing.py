from __future__ import annotations

import email
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from plot_publisher import ConfigurationInvalid, PublishFailed, PublishRefused, configuration, publish_plot, publishing
from tests.support.http import Request, Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(publishing, "_BACK_OFF_S", (0.0, 0.0))
    with serving() as running:
        monkeypatch.setenv(
            "PLOT_PUBLISHER_URL_TEMPLATE", running.url + "/plots/$instrument/${run_number}/upload_plot_data/"
        )
        monkeypatch.setenv("PLOT_PUBLISHER_TOKEN", "a-token")
        yield running


def parts(request: Request) -> dict[str, bytes]:
    """The parts of a multipart form by their names."""
    whole = email.message_from_bytes(f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + request.body)
    found = {}
    for part in whole.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found[str(part.get_param("name", header="content-disposition"))] = content
    return found


def test_a_job_publishes_with_its_token(server: Server) -> None:
    answer = publish_plot("HYS", 1001, files={"file": "<div>plot µ</div>"})
    assert answer.status_code == 200
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/plots/HYS/1001/upload_plot_data/")
    assert request.headers["authorization"] == "Bearer a-token"
    assert parts(request) == {"file": "<div>plot µ</div>".encode()}


def test_a_configuration_file_that_is_named_goes_before_the_environment(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "own.conf"
    template = f"{server.url}/own/$instrument/$run_number/"
    path.write_text(
        json.dumps({"publish_url_template": template, "publisher_username": "me", "publisher_password": "secret"})
    )
    publish_plot("HYS", "7", files={"file": b"{}"}, config=path)
    (request,) = server.requests
    assert request.path == "/own/HYS/7/"
    assert "authorization" not in request.headers
    assert parts(request) == {"username": b"me", "password": b"secret", "file": b"{}"}


def test_the_file_beside_the_script_is_the_last_resort(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLOT_PUBLISHER_URL_TEMPLATE")
    monkeypatch.setattr(configuration, "FILES", (str(tmp_path / "none.conf"), "post_processing.conf"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationInvalid, match=r"PLOT_PUBLISHER_URL_TEMPLATE.*post_processing\.conf"):
        publish_plot("HYS", 1, files={"file": "<div></div>"})
    Path("post_processing.conf").write_text(
        json.dumps({"publish_url_template": f"{server.url}/$instrument/$run_number/"})
    )
    assert publish_plot("HYS", 1, files={"file": "<div></div>"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nonsense", "cannot be read"),
        ("[]", "no JSON object"),
        ("{}", "'publish_url_template'"),
        ('{"publish_url_template": "http://x/$nobody"}', "cannot be filled"),
        ('{"publish_url_template": "file:///etc/passwd"}', "neither http nor https"),
        ('{"publish_url_template": "http://x", "verify_ssl": false}', "publisher_ca_file"),
    ],
)
def test_an_unusable_configuration_says_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "c.conf"
    path.write_text(content)
    with pytest.raises(ConfigurationInvalid, match=said):
        publish_plot("HYS", 1, files={"file": "<div></div>"}, config=path)


def test_a_refusal_carries_the_servers_words_and_is_not_repeated(server: Server) -> None:
    server.answers = [(401, {}, b"The token is not accepted")]
    with pytest.raises(PublishRefused, match="answered 401: The token is not accepted"):
        publish_plot("HYS", 1, files={"file": "<div></div>"})
    assert len(server.requests) == 1


def test_a_server_that_is_out_of_order_is_tried_three_times(server: Server) -> None:
    server.answers = [(503, {}, b""), (503, {}, b""), (200, {}, b"")]
    assert publish_plot("HYS", 1, files={"file": "<div></div>"}).status_code == 200
    server.answers = [(503, {}, b"")]
    with pytest.raises(PublishFailed, match="answered 503"):
        publish_plot("HYS", 1, files={"file": "<div></div>"})


def test_a_redirect_is_no_success_as_the_plot_would_not_arrive(server: Server) -> None:
    server.answers = [(301, {"Location": "/elsewhere"}, b"")]
    with pytest.raises(PublishRefused, match="answered 301"):
        publish_plot("HYS", 1, files={"file": "<div></div>"})


def test_a_server_that_is_not_there_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLOT_PUBLISHER_URL_TEMPLATE", "http://127.0.0.1:1/$instrument/$run_number/")
    with pytest.raises(PublishFailed, match=r"127\.0\.0\.1:1/HYS/1/ cannot be reached"):
        publish_plot("HYS", 1, files={"file": "<div></div>"})
