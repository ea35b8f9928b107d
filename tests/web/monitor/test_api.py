from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from tests.support.pages import Monitor


def reported(monitor: Monitor, number: int, *files: tuple[str, str]) -> Path:
    """A run whose reduction has written these (name, content) into the archive; the folder they lie in."""
    folder = monitor.archive / "SNS/HYS/IPTS-12345/shared/autoreduce"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files:
        (folder / name).write_text(content)
    run = monitor.run(number)
    monitor.step(run, "reduce", "complete")
    entries = [{"path": str(folder / name), "size": len(content), "kind": "reduced"} for name, content in files]
    monitor.report(run, "reduce", "done\n", entries)
    return folder


def test_a_run_is_told_with_its_steps_and_files(monitor: Monitor) -> None:
    reported(monitor, 1001, ("HYS_1001.nxs", "data"))
    found = monitor.program("/api/runs/SNS/HYS/1001").json()
    assert {key: found[key] for key in ("facility", "instrument", "run_number", "experiment", "state", "cycle")} == {
        "facility": "SNS",
        "instrument": "HYS",
        "run_number": 1001,
        "experiment": "IPTS-12345",
        "state": "complete",
        "cycle": 1,
    }
    (step,) = found["steps"]
    assert (step["name"], step["attempt"], step["state"], step["agent"]) == ("reduce", 1, "complete", "autoreducer1")
    assert step["queued_at"] < step["started_at"] < step["ended_at"]
    raw, reduced = found["files"]
    assert (raw["kind"], raw["url"]) == ("raw", "/api/runs/SNS/HYS/1001/files/HYS_1001.nxs.h5")
    assert monitor.program(reduced["url"]).content == b"data"
    assert monitor.program(found["page_url"]).status_code == 200
    assert found["plot_url"].endswith("/plots/hys/1001/update/html/")


def test_only_the_current_attempt_of_each_step_is_told(monitor: Monitor) -> None:
    run = monitor.run(1002)
    monitor.step(run, "reduce", "failed", 1, error="REDUCTION: first")
    monitor.step(run, "reduce", "started", 2)
    monitor.step(run, "catalog_raw", "complete", 1)
    steps = monitor.program("/api/runs/SNS/HYS/1002").json()["steps"]
    assert [(step["name"], step["attempt"]) for step in steps] == [("catalog_raw", 1), ("reduce", 2)]


def test_an_unknown_run_is_404_in_json(monitor: Monitor) -> None:
    for path in ("SNS/HYS/999", "SNS/NOWHERE/1", "XXX/HYS/1", "SNS/NOWHERE/", "SNS/HYS/999/files/x"):
        answer = monitor.program(f"/api/runs/{path}")
        assert answer.status_code == 404, path
        assert answer.json()["error"]


def test_programs_need_the_token_and_can_only_read(monitor: Monitor) -> None:
    where = monitor.url("/api/runs/SNS/HYS/1001")
    assert httpx.get(where, timeout=20).status_code == 401
    for wrong in ("Bearer", "Bearer x", "Bearer of service-toke", "Basic of service-token", "Bearer \xe9"):
        headers = {"Authorization": wrong.encode("latin-1")}
        assert httpx.get(where, headers=headers, timeout=20).status_code == 401, wrong
    right = {"Authorization": "Bearer of service-token"}
    assert httpx.post(where, headers=right, timeout=20).status_code in (401, 403, 405)


def test_who_has_logged_in_may_use_the_api_too(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.run(1003)
    assert browser.get("/api/runs/SNS/HYS/1003").json()["run_number"] == 1003


def test_runs_come_in_pages(monitor: Monitor) -> None:
    for number in range(1, 8):
        monitor.run(number, "PAGES", ago_s=100 - number)
    numbers: list[int] = []
    older = ""
    for _ in range(4):
        parameters = {"limit": "3", **({"older": older} if older else {})}
        page = httpx.get(
            monitor.url("/api/runs/SNS/PAGES/"),
            params=parameters,
            headers={"Authorization": "Bearer of service-token"},
            timeout=20,
        ).json()
        numbers += [run["run_number"] for run in page["runs"]]
        older = page["older"]
        if not older:
            break
    assert numbers == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=²", "older=nonsense", "q=%27"])
def test_a_query_that_makes_no_sense_is_refused(monitor: Monitor, query: str) -> None:
    monitor.sql_do("INSERT INTO instrument (facility, name) VALUES ('SNS', 'HYS') ON CONFLICT DO NOTHING")
    answer = monitor.program(f"/api/runs/SNS/HYS/?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_file_outside_of_the_archive_is_not_given_whatever_a_report_says(monitor: Monitor, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = monitor.archive / "SNS/HYS/IPTS-12345/shared/autoreduce"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link.txt").symlink_to(secret)
    run = monitor.run(1004)
    dotted = f"{folder}/../../../../../../{'../' * 12}{secret}"
    entries = [
        {"path": path, "size": 6, "kind": "reduced"} for path in (str(secret), str(folder / "link.txt"), "relative.txt")
    ]
    entries += [{"path": dotted.replace("secret.txt", "dotted.txt"), "size": 1, "kind": "reduced"}]
    entries += [
        {"path": "/dev/zero", "size": 1, "kind": "reduced"},
        {"path": str(folder), "size": 1, "kind": "reduced"},
    ]
    monitor.report(run, "reduce", "", entries)
    for file in monitor.program("/api/runs/SNS/HYS/1004").json()["files"]:
        if file["url"]:
            assert monitor.program(file["url"]).status_code == 404, file
    for name in ("..%2f..%2fsecret.txt", "HYS_1004.nxs.h5", "%00"):
        assert monitor.program(f"/api/runs/SNS/HYS/1004/files/{name}").status_code == 404, name


def test_what_a_report_says_wrongly_of_its_files_breaks_no_page(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(1005)
    monitor.sql_do(
        "INSERT INTO job_report (run_id, step, agent, started_at, ended_at, log, files)"
        " VALUES (%s, 'reduce', '', now(), now(), '', %s)",
        run,
        '[1, null, {}, {"path": 7}, {"path": ""}, {"path": "/x/y", "size": "big", "kind": null}]',
    )
    assert browser.get("/instruments/SNS/HYS/runs/1005/").status_code == 200
    assert [file["path"] for file in monitor.program("/api/runs/SNS/HYS/1005").json()["files"][1:]] == ["/x/y"]


def test_a_large_file_is_streamed_and_its_name_kept(monitor: Monitor) -> None:
    folder = reported(monitor, 1006, ("big file ä.nxs", ""))
    with (folder / "big file ä.nxs").open("wb") as file:
        os.truncate(file.fileno(), 64 << 20)
    where = monitor.program("/api/runs/SNS/HYS/1006").json()["files"][1]["url"]
    headers = {"Authorization": "Bearer of service-token"}
    total = 0
    with httpx.stream("GET", monitor.url(where), headers=headers, timeout=20) as answer:
        assert answer.headers["content-length"] == str(64 << 20)
        assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''big%20file%20%C3%A4.nxs"
        assert answer.headers["content-type"] == "application/octet-stream"
        for chunk in answer.iter_bytes():
            total += len(chunk)
    assert total == 64 << 20
