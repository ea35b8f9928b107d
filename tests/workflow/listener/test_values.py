from __future__ import annotations

import json

import pytest

from neutronflow.domain.messages.run import BadMessage
from neutronflow.workflow.listener.signals import Signal, Signals, read_signal
from neutronflow.workflow.listener.values import MAX_KEYS, Place, Value, Values, read_values
from tests.workflow.hostile import BODIES

HYS = Place("SNS", "HYS")
NOW = 1_795_393_405.0


def values(**told: object) -> dict[str, str]:
    return read_values(json.dumps(told).encode(), NOW)[0]


def test_scalars_become_text_and_the_envelope_is_left_out() -> None:
    told = values(msg_type="2697986054", src_id="DASMON_0", dest_id="", timestamp="1", correl_id="x",
                  count_rate="12.5", recording=True, paused="false", run_number=1001, rate=0.5, users={"user": {}},
                  title="x" * 300, nothing=None, listed=[1])  # fmt: skip
    assert told == {"count_rate": "12.5", "recording": "true", "paused": "false", "run_number": "1001", "rate": "0.5",
                    "title": "x" * 128}  # fmt: skip


def test_monitors_are_values_of_their_own() -> None:
    told = values(monitors={"1": "12.5", "2": {"id": "7", "counts": "3"}, "x" * 200: "1", "3": None})
    assert told == {"monitor_count_1": "12.5", "monitor_count_7": "3"}


def test_what_postgresql_cannot_hold_is_mended() -> None:
    assert values(**{"a\0b": "c\0d"}) == {"a\ufffdb": "c\ufffdd"}
    assert values(huge=10**200, small=-(2**64)) == {"small": str(-(2**64))}


@pytest.mark.parametrize(
    ("stamp", "at"),
    [(str(int(NOW)), NOW), (str(int(NOW) - 30), NOW), (str(int(NOW) - 600), NOW - 600), (str(int(NOW) + 9999), NOW),
     ("yesterday", NOW), ("-5", NOW), ("nan", NOW), ("1e400", NOW), (["x"], NOW), ("9" * 5000, NOW)],
)  # fmt: skip
def test_a_message_is_of_now_unless_it_was_held_up(stamp: object, at: float) -> None:
    assert read_values(json.dumps({"timestamp": stamp, "a": 1}).encode(), NOW) == ({"a": "1"}, at)


@pytest.mark.parametrize(("text", "number"), [("1.5e3", 1500.0), ("-7", -7.0), ("nan", None), ("1e999", None),
                                              ("0x10", None), ("", None), ("1_000", None)])  # fmt: skip
def test_only_finite_numbers_have_a_course(text: str, number: float | None) -> None:
    assert Value(HYS, "count_rate", text, NOW).number == number


def test_only_the_newest_and_the_changed_are_stored() -> None:
    book = Values()
    assert book.note(HYS, {"a": "1", "b": "1"}, NOW)
    book.note(HYS, {"a": "2"}, NOW + 0.5)
    book.note(HYS, {"a": "3"}, NOW + 0.1)
    assert book.take() == [Value(HYS, "a", "2", NOW + 0.5), Value(HYS, "b", "1", NOW)]
    book.note(HYS, {"a": "2", "b": "1"}, NOW + 1)
    assert book.take() == []
    book.note(HYS, {"a": "5", "b": "1"}, NOW + 2.1)
    assert [value.text for value in book.take()] == ["5", "1"]


def test_a_flood_of_made_up_keys_is_dropped_and_the_known_ones_are_kept() -> None:
    book = Values()
    book.note(HYS, {"count_rate": "1"}, NOW)
    book.take()
    assert not book.note(HYS, {f"key{number}": "1" for number in range(10_000)}, NOW)
    assert not book.note(HYS, {"one more": "1", "count_rate": "2"}, NOW + 1)
    taken = book.take()
    assert len(taken) == MAX_KEYS
    assert Value(HYS, "count_rate", "2", NOW + 1) in taken
    full = [book.note(Place("SNS", f"I{number}"), {"a": "1"}, NOW) for number in range(1000)]
    assert full.count(True) < 500


def read(**told: object) -> Signal:
    return read_signal(json.dumps({"timestamp": str(int(NOW)), **told}).encode(), HYS, NOW)


def test_an_alarm_is_asserted_and_retracted() -> None:
    told = {"sig_name": "SID", "sig_source": "DASMON", "sig_message": "no beam", "sig_level": "3"}
    assert read(msg_type="2147483648", **told) == Signal(HYS, "SID", NOW, 3, "DASMON", "no beam")
    assert read(msg_type=2147483649, sig_name="SID") == Signal(HYS, "SID", NOW)
    assert read(msg_type="2147483649", **told).level is None
    assert read(sig_name="SID").level is None


@pytest.mark.parametrize(
    "told",
    [{}, {"sig_name": ""}, {"sig_name": ["x"]}, {"sig_name": "x", "sig_level": "9"}, {"sig_name": "x", "sig_level": "-1"},
     {"sig_name": "x", "sig_level": None}, {"sig_name": "x", "sig_level": "³"}, {"sig_name": True},
     {"sig_name": "x", "sig_level": "3", "timestamp": str(int(NOW) - 4000)}],
)  # fmt: skip
def test_what_is_no_alarm_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(BadMessage):
        read(**told)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_hostile_bodies_are_no_alarms_and_values_or_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        read_signal(body, HYS, NOW)
    try:
        told, _ = read_values(body, NOW)
    except BadMessage:
        return
    assert all(0 < len(key) <= 128 and len(value) <= 128 and "\0" not in key + value for key, value in told.items())


def test_the_newest_word_on_an_alarm_counts() -> None:
    book = Signals()
    book.note(Signal(HYS, "a", NOW, 3))
    book.note(Signal(HYS, "a", NOW))
    assert book.take() == [Signal(HYS, "a", NOW)]
    assert [book.note(Signal(HYS, f"s{number}", NOW, 3)) for number in range(600)].count(True) == 500
