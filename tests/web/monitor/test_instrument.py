"""What pages and programs are told of an instrument now, and of runs before their first cycle."""

from __future__ import annotations

import json
import math
import re

import httpx
import pytest

from tests.support.pages import Monitor, form_token

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 }}"


def text(page: httpx.Response) -> str:
    """What a page says, without its tags."""
    assert page.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.text))


def record(monitor: Monitor, instrument: str, number: int, **values: str) -> None:
    """An instrument that records a run."""
    monitor.run(number, instrument, "acquiring", cycle=0)
    monitor.told(instrument, recording="true", paused="false", run_number=str(number), count_rate="123456.7", **values)


def test_a_recording_instrument_says_so_with_its_run_and_counts(monitor: Monitor, browser: httpx.Client) -> None:
    record(monitor, "REC", 11, total_counts="1234567", total_charge="2.5e9", monitor_count_1="42", run_title="Nickel")
    page = browser.get("/instruments/SNS/REC/")
    said = text(page)
    assert "recording" in said
    assert 'href="/instruments/SNS/REC/runs/11/"' in page.text
    for found in ("123,457 1/s", "1,234,567", "2.5 mC", "Monitor 1", "42 1/s", "Nickel", "heard just now"):
        assert found in said, found
    assert "No contact" not in said
    assert "simulated" not in said
    part = browser.get("/instruments/sns/rec/now/")
    assert "recording" in text(part)
    assert "<html" not in part.text


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"recording": "true", "paused": "false"}, "recording"),
        ({"recording": "true", "paused": "true"}, "paused"),
        ({"recording": "false", "paused": "false"}, "idle"),
        ({"recording": "true", "connected": "false"}, "no stream"),
        ({"recording": "True"}, "recording"),
    ],
)
def test_states_are_derived_from_what_is_told(monitor: Monitor, told: dict[str, str], word: str) -> None:
    name = "STATE"
    monitor.told(name, **{"paused": "false", "connected": "true", "run_number": "0", **told})
    found = monitor.program(f"/api/instruments/SNS/{name}").json()
    assert (found["state"], found["stale"], found["run_number"]) == (word, False, None)


def test_an_instrument_that_is_silent_is_shown_as_it_was_and_since_when(
    monitor: Monitor, browser: httpx.Client
) -> None:
    record(monitor, "LOST", 12)
    monitor.pvs("LOST", ("a:temp", 300.0, None, 0), ago_s=500)
    monitor.sql_do("UPDATE status_value SET at = now() - interval '90 s' WHERE instrument_id IN"
                   " (SELECT id FROM instrument WHERE name = 'LOST')")  # fmt: skip
    page = browser.get("/instruments/SNS/LOST/")
    said = text(page)
    assert "no contact" in said
    assert re.search(r"No contact since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", said)
    assert len(re.findall(r"stale since \d\d:\d\d:\d\d", said)) >= 3
    found = monitor.program("/api/instruments/SNS/LOST").json()
    assert (found["state"], found["stale"]) == ("no contact", True)
    assert "no contact" in text(browser.get("/instruments/"))


def test_a_single_value_becomes_stale_for_itself(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.told("HALF", count_rate="5", recording="true")
    monitor.told("HALF", ago_s=25, total_counts="7")
    page = browser.get("/instruments/SNS/HALF/").text
    assert re.search(r"<b>7</b>.*?class=\"stale\">stale since", page, re.DOTALL)
    assert re.search(r"<b>5</b><span|<b>5</b> <span class=\"quiet\">1/s</span><br>.*?>just now<", page)
    assert 'data-stale="20"' in page


def test_variables_have_value_units_alarm_and_age_and_the_watched_come_first(
    monitor: Monitor, browser: httpx.Client
) -> None:
    monitor.told("PVS", recording="false")
    monitor.pvs("PVS", ("a", 1.0, None, 0), ("b", 2.5, None, 4), ("c", 1.0, "open", 3), ("d", None, "text", 0xFFFE))
    monitor.sql_do("SELECT nf_store_pvs('SNS', 'PVS', ARRAY['b'], ARRAY[2.5], NULL, ARRAY[4],"
                   " ARRAY[extract(epoch FROM now())::float8], ARRAY['K'], ARRAY[1])")  # fmt: skip
    monitor.sql_do("SELECT setInstrumentPVs('PVS', ARRAY['b'])")
    page = browser.get("/instruments/SNS/PVS/")
    said = text(page)
    for found in ("2.5 K", "high", "open (1)", "very high", "disconnected", "in order", "3 others"):
        assert found in said, found
    assert page.text.index(">b<") < page.text.index(">a<")
    pvs = {pv["name"]: pv for pv in monitor.program("/api/instruments/SNS/PVS").json()["pvs"]}
    assert {key: pvs["b"][key] for key in ("number", "text", "units", "status", "severity", "monitored")} == {
        "number": 2.5, "text": None, "units": "K", "status": 4, "severity": 1, "monitored": True,
    }  # fmt: skip
    assert pvs["d"]["text"] == "text"
    assert pvs["a"]["at"].endswith("Z")


def test_numbers_that_json_does_not_know_are_told_as_text(monitor: Monitor) -> None:
    monitor.pvs("ODD", ("nan", math.nan, None, 0), ("inf", math.inf, None, 0))
    answer = monitor.program("/api/instruments/SNS/ODD")
    pvs = json.loads(answer.text, parse_constant=pytest.fail)["pvs"]
    assert [(pv["name"], pv["number"], pv["text"]) for pv in pvs] == [("inf", None, "inf"), ("nan", None, "nan")]


def test_what_comes_from_outside_is_shown_as_text(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(13, "EVIL", "acquiring", cycle=0)
    monitor.told("EVIL", recording="true", run_number="13", run_title=HOSTILE, count_rate=HOSTILE, proposal_id=HOSTILE,
                 **{HOSTILE[:100]: HOSTILE, f"monitor_count_{HOSTILE[:80]}": HOSTILE})  # fmt: skip
    monitor.pvs("EVIL", (HOSTILE, None, HOSTILE, 2**62), (HOSTILE + "2", 1.0, HOSTILE, -5))
    monitor.sql_do("INSERT INTO signal (instrument_id, name, source, message, level, at) SELECT id, %s, %s, %s, 99, now()"
                   " FROM instrument WHERE name = 'EVIL'", HOSTILE, HOSTILE, HOSTILE)  # fmt: skip
    monitor.sql_do("INSERT INTO service_status (name, role, status, facility, instrument) VALUES ('x', %s, %s, 'SNS', 'EVIL')",
                   HOSTILE[:30], HOSTILE)  # fmt: skip
    monitor.event(run, "SNS.EVIL.APP.SMS", "", information=f"SMS gap: {HOSTILE}")
    for path in ("", "now/", "runs/13/"):
        page = browser.get(f"/instruments/SNS/EVIL/{path}")
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
    assert "<script>alert" not in browser.get("/instruments/").text
    assert monitor.program("/api/instruments/SNS/EVIL").json()["signals"][0]["message"] == HOSTILE


def test_simulated_instruments_and_runs_are_marked_everywhere(monitor: Monitor, browser: httpx.Client) -> None:
    record(monitor, "SIMU", 14, simulated="true")
    monitor.sql_do("UPDATE run SET simulated = true WHERE run_number = 14")
    for path in ("/instruments/", "/instruments/SNS/SIMU/", "/instruments/SNS/SIMU/runs/14/"):
        page = browser.get(path).text
        assert re.search(r'<svg class="icon"[^>]*><use href="[^"]*#flask"></use></svg><b>simulated</b>', page), path
    assert monitor.program("/api/runs/SNS/SIMU/14").json()["simulated"] is True
    assert monitor.program("/api/instruments/SNS/SIMU").json()["simulated"] is True


def test_an_instrument_without_live_services_is_as_before(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.run(15, "PLAIN", "complete")
    assert "no contact" not in text(browser.get("/instruments/SNS/PLAIN/"))
    found = monitor.program("/api/instruments/SNS/PLAIN").json()
    assert (found["state"], found["contact_at"], found["values"], found["pvs"]) == ("unknown", None, {}, [])
    assert monitor.program("/api/instruments/SNS/NOWHERE").status_code == 404
    assert browser.get("/instruments/SNS/NOWHERE/now/").status_code == 404


def test_a_run_that_is_taken_shows_how_long_and_what_is_missing(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(16, "TAKEN", "acquiring", cycle=0, data_file="")
    monitor.event(run, "SNS.TAKEN.APP.SMS", "acquiring", information="SMS run started")
    said = text(browser.get("/instruments/SNS/TAKEN/runs/16/"))
    assert "Recording for" in said
    assert "a plot shown here is the live one" in said
    monitor.event(run, "SNS.TAKEN.APP.SMS", "", information="SMS gap: 12:00:01 to 12:00:04")
    monitor.event(run, "SNS.TAKEN.APP.SMS", "translating", information="SMS run stopped")
    monitor.event(run, "SNS.TAKEN.APP.SMS", "", information="STC transient Error - connection refused")
    monitor.sql_do("UPDATE run SET state = 'translating' WHERE run_number = 16")
    page = browser.get("/instruments/SNS/TAKEN/runs/16/")
    said = text(page)
    for found in ("Data is missing in this run: 12:00:01 to 12:00:04", "STC transient Error - connection refused",
                  "Translating for", "Recorded", "translating"):  # fmt: skip
        assert found in said, found
    assert page.text.count('role="alert"') >= 2
    monitor.event(run, "SNS.TAKEN.APP.SMS", "", information="Needs Manual Translation - disk full")
    assert "Needs Manual Translation - disk full" in text(browser.get("/instruments/SNS/TAKEN/runs/16/"))
    monitor.event(run, "POSTPROCESS.DATA_READY", "cycle 1 began")
    monitor.sql_do("UPDATE run SET state = 'processing', cycle = 1 WHERE run_number = 16")
    said = text(browser.get("/instruments/SNS/TAKEN/runs/16/"))
    assert "Data is missing" in said
    assert "The run's file" not in said
    assert "Translated in" in said
    assert "could not be made" not in said


def test_the_runs_of_the_probe_are_in_no_list_but_can_be_looked_at(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(17, "PROBE", "failed")
    monitor.step(run, "reduce", "failed", error="of the probe")
    monitor.told("PROBE", count_rate="1")
    monitor.sql_do("INSERT INTO service_status (name, role, facility, instrument) VALUES ('SNS/PROBE SMS', 'SMS', 'SNS',"
                   " 'PROBE')")  # fmt: skip
    assert "PROBE" not in browser.get("/instruments/").text
    assert "PROBE" not in browser.get("/services/").text
    for path in ("/instruments/SNS/PROBE/", "/instruments/SNS/PROBE/now/"):
        assert browser.get(path).status_code == 404
    for path in ("/api/runs/SNS/PROBE/", "/api/instruments/SNS/PROBE"):
        assert monitor.program(path).status_code == 404
    page = browser.get("/instruments/SNS/PROBE/runs/17/")
    assert "of the probe" in text(page)
    assert 'href="/instruments/SNS/PROBE/"' not in page.text
    assert monitor.program("/api/runs/SNS/PROBE/17").json()["state"] == "failed"


def remove(monitor: Monitor, path: str, token: str = "of service-token") -> httpx.Response:
    return httpx.delete(monitor.url(path), headers={"Authorization": f"Bearer {token}"}, timeout=20)


def test_the_probe_removes_its_own_runs_and_no_others(monitor: Monitor, browser: httpx.Client) -> None:
    monitor.step(monitor.run(18, "PROBE"), "reduce", "complete")
    monitor.run(18, "REAL")
    assert remove(monitor, "/api/runs/SNS/REAL/18").status_code == 403
    assert remove(monitor, "/api/runs/SNS/PROBE/18", "wrong").status_code == 401
    assert httpx.delete(monitor.url("/api/runs/SNS/PROBE/18"), timeout=20).status_code == 401
    forged = form_token(browser.get("/instruments/").text)
    assert browser.delete("/api/runs/SNS/PROBE/18", headers={"X-CSRFToken": forged}).status_code == 403
    assert monitor.program("/api/runs/SNS/PROBE/18").status_code == 200
    assert remove(monitor, "/api/runs/sns/probe/18").status_code == 204
    assert remove(monitor, "/api/runs/SNS/PROBE/18").status_code == 404
    assert monitor.program("/api/runs/SNS/PROBE/18").status_code == 404
    assert monitor.program("/api/runs/SNS/REAL/18").status_code == 200


def test_nothing_else_can_be_deleted_with_the_token(monitor: Monitor) -> None:
    for path in ("/instruments/", "/api/runs/SNS/REAL/", "/api/instruments/SNS/REAL", "/services/", "/events"):
        assert remove(monitor, path).status_code in (403, 405), path
