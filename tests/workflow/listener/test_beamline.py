"""The listener as a process, and what beamlines tell it through a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from neutronflow.domain.messages.combus import MessageType, Sender
from neutronflow.foundation.broker.message import Outgoing, topic
from tests.support.bus import dasmon, recorded, signal, sms
from tests.support.services import Services, eventually
from tests.workflow.hostile import BODIES

VALUE = (
    "SELECT value FROM status_value JOIN instrument ON instrument.id = instrument_id "
    "WHERE facility = 'SNS' AND name = %s AND key = %s"
)
#: Seconds within which 5,000 messages are to be stored; a quiet machine needs about one.
BURST_S = float(os.environ.get("NEUTRONFLOW_TEST_BURST_S", "10"))


@pytest.fixture(scope="module", autouse=True)
def listener(place: Services) -> Iterator[subprocess.Popen[bytes]]:
    process = place.start("listener", NEUTRONFLOW_LISTENER__PURGE_EVERY_S="0.5")
    yield process
    assert place.end(process) == 0


def value(place: Services, instrument: str, key: str) -> str | None:
    found = place.sql(VALUE, instrument, key)
    return str(found[0][0]) if found else None


def test_the_recorded_messages_of_five_runs_are_understood(place: Services) -> None:
    place.publish(*recorded("sms.txt"), *recorded("pvsd.txt"), *recorded("stc_run1001.txt"))
    found = "SELECT run_number, state FROM run JOIN instrument ON instrument.id = instrument_id WHERE name = 'HYS' ORDER BY 1"
    expected = [(number, "translating") for number in (1001, 2001, 3001, 4001, 5001)]
    eventually(lambda: place.sql(found) == expected, "the runs")
    of_run = "SELECT name FROM experiment JOIN run ON experiment.id = experiment_id WHERE run_number = 1001"
    assert place.sql(of_run) == [("IPTS-12345",)]
    story = "SELECT information FROM event JOIN run ON run.id = run_id WHERE run_number = 1001 ORDER BY event.id"
    assert [text for (text,) in place.sql(story)] == [
        "SMS run started", "SMS Start Run Sent to STC", "SMS run paused", "SMS run resumed", "SMS run stopped",
        "Translation Succeeded - Run 1001 successfully translated",
    ]  # fmt: skip
    services = "SELECT name, role, status FROM service_status WHERE instrument = 'HYS' ORDER BY 1"
    expected_services = [(f"SNS/HYS {role}", role, "0") for role in ("PVSD", "SMS", "STC")]
    eventually(lambda: place.sql(services) == expected_services, "one row for each process, over its restarts")


def test_values_of_a_beamline_are_stored_and_pages_told(place: Services) -> None:
    place.publish(dasmon("VAL", count_rate="12.5", recording="true", monitors={"1": "3.5"}, simulated="true"))
    eventually(lambda: value(place, "VAL", "monitor_count_1") == "3.5", "the values")
    assert (value(place, "VAL", "count_rate"), value(place, "VAL", "simulated")) == ("12.5", "true")
    assert value(place, "VAL", "msg_type") is None
    told = "SELECT count(*) FROM change WHERE kind = 'instrument' AND instrument = 'VAL'"
    assert place.sql(told) == [(1,)]
    place.publish(dasmon("VAL", count_rate="13"))
    eventually(lambda: place.sql(told) == [(2,)], "what was held back is told by itself")
    history = (
        "SELECT value FROM status_history JOIN instrument i ON i.id = instrument_id WHERE i.name = 'VAL' ORDER BY at"
    )
    assert place.sql(history) == [(12.5,), (13.0,)]


def test_alarms_are_asserted_and_retracted(place: Services) -> None:
    of = "FROM signal s JOIN instrument i ON i.id = instrument_id WHERE i.name = 'SIG'"
    found = f"SELECT s.name, message, level {of} ORDER BY 1"
    place.publish(signal("SIG", "A", "3", "no beam"), signal("SIG", "B", "5", "x" * 3000))
    eventually(lambda: place.sql(found) == [("A", "no beam", 3), ("B", "x" * 1000, 5)], "the alarms")
    place.publish(signal("SIG", "A", "4", "no beam at all"), signal("SIG", "B"))
    eventually(lambda: place.sql(found) == [("A", "no beam at all", 4)], "one is worse, one over")


def test_processes_of_the_probe_are_not_shown_and_its_runs_exist(place: Services) -> None:
    place.publish(
        Sender("SNS", "PROBE", "SMS").heartbeat(), sms(3, "SMS run started", instrument="PROBE"),
        Sender("SNS", "SEEN", "SMS").heartbeat(),
    )  # fmt: skip
    eventually(lambda: place.sql("SELECT 1 FROM service_status WHERE instrument = 'SEEN'"), "the one after it")
    eventually(lambda: place.sql("SELECT 1 FROM run WHERE run_number = 3"), "its run")
    assert place.sql("SELECT 1 FROM service_status WHERE instrument = 'PROBE'") == []


TOPICS = ("APP.DASMON", "SIGNAL.DASMON", "APP.SMS", "STATUS.SMS", "STATUS.POSTPROCESS", "STATUS.DASMON")
BAD = (
    *BODIES.values(),
    json.dumps({f"key{number}": "x" for number in range(1000)}).encode(),
    json.dumps({"count_rate": 10**300, "huge": "9" * 5000, "sig_name": "../etc", "sig_level": 10**300}).encode(),
    b'{"run_number": ' + b"9" * 5000 + b', "reason": "SMS run started", "status": ' + b"9" * 5000 + b"}",
    json.dumps({"run_number": "-1", "reason": "SMS run started"}).encode(),
    json.dumps({"run_number": "12", "reason": "../etc\0", "ipts": "'; drop table run;--"}).encode(),
)


def test_hostile_messages_neither_stop_nor_slow_it(place: Services) -> None:
    names = [f"SNS.{instrument}.{ending}" for instrument in ("BAD", "..", "a b", "-X", "x" * 80) for ending in TOPICS]
    names += [f"OTHER.HYS.{ending}" for ending in TOPICS]
    place.publish(*(Outgoing(destination=topic(name), body=body, persistent=False) for name in names for body in BAD))
    began = time.monotonic()
    place.publish(dasmon("GOOD", count_rate="1"), sms(71, "SMS run started"), signal("GOOD", "A", "3"),
                  Sender("SNS", "GOOD", "SMS").heartbeat())  # fmt: skip
    eventually(lambda: value(place, "GOOD", "count_rate") == "1", "the good values")
    eventually(lambda: place.sql("SELECT 1 FROM run WHERE run_number = 71"), "the good run")
    eventually(lambda: place.sql("SELECT 1 FROM signal s JOIN instrument i ON i.id = instrument_id WHERE i.name = 'GOOD'"),
               "the good alarm")  # fmt: skip
    eventually(lambda: place.sql("SELECT 1 FROM service_status WHERE name = 'SNS/GOOD SMS'"), "the good heartbeat")
    assert time.monotonic() - began < 10
    names_known = [
        name for (name,) in place.sql("SELECT name FROM instrument WHERE name NOT IN ('HYS', 'VAL', 'SIG', 'PROBE')")
    ]
    assert set(names_known) <= {"BAD", "GOOD"}
    ((keys,),) = place.sql(
        "SELECT count(*) FROM status_value JOIN instrument i ON i.id = instrument_id WHERE i.name = 'BAD'"
    )
    assert 0 < keys <= 500


def test_a_burst_is_stored_as_fast_as_it_comes(place: Services) -> None:
    """5,000 messages with a dozen values each, of ten instruments, and a run in their midst, which must not be lost."""
    keys = (
        "pulse_charge",
        "pulse_freq",
        "pixel_error_rate",
        "stream_bps",
        "total_counts",
        "total_charge",
        "total_time",
    )
    burst = [
        dasmon(
            f"BURST{number % 10}",
            count_rate=str(number),
            **dict.fromkeys(keys, str(number)),
            monitors={"1": str(number)},
        )
        for number in range(5000)
    ]
    burst.insert(2500, sms(72, "SMS run started"))
    began = time.monotonic()
    place.publish(*burst)
    sent = time.monotonic() - began
    eventually(lambda: [value(place, f"BURST{n}", "count_rate") for n in range(10)] == [str(4990 + n) for n in range(10)],
               "the newest of each", BURST_S)  # fmt: skip
    took = time.monotonic() - began
    print(f"5,000 messages: sent in {sent:.2f} s, stored after {took:.2f} s: {5000 / took:,.0f} messages/s")
    eventually(lambda: place.sql("SELECT 1 FROM run WHERE run_number = 72"), "the run")
    assert took < BURST_S


def test_old_history_is_forgotten(place: Services) -> None:
    place.publish(dasmon("OLD", count_rate="1"))
    eventually(lambda: value(place, "OLD", "count_rate"), "the instrument")
    place.do(
        "SELECT nf_store_pvs('SNS', 'OLD', ARRAY['a'], ARRAY[1.0], NULL, NULL, ARRAY[extract(epoch FROM now()) - 50000])"
    )
    place.do("SELECT nf_store_pvs('SNS', 'OLD', ARRAY['a'], ARRAY[2.0], NULL, NULL, ARRAY[extract(epoch FROM now())])")
    place.do(
        "INSERT INTO status_history (instrument_id, key, at, value) SELECT id, 'count_rate', now() - interval '13 h', 7 "
        "FROM instrument WHERE name = 'OLD'"
    )
    eventually(lambda: place.sql("SELECT number FROM pv_history") == [(2.0,)], "old values of variables are gone")
    eventually(lambda: place.sql("SELECT 1 FROM status_history WHERE value = 7") == [], "old count rates, too")


def test_a_run_keeps_its_name_by_the_topic(place: Services) -> None:
    body = {
        "facility": "HFIR",
        "instrument": "BL14B",
        "run_number": "73",
        "ipts": "IPTS-1",
        "reason": "SMS run started",
    }
    place.publish(Outgoing(destination=topic("SNS.hys.APP.SMS"), body=json.dumps(body).encode(), persistent=False))
    found = "SELECT facility, name FROM instrument JOIN run ON instrument.id = instrument_id WHERE run_number = 73"
    eventually(lambda: place.sql(found) == [("SNS", "HYS")], "the run")
    assert int(MessageType.SMS_RUN_STATUS) == 2686451712
