from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neutronflow.domain.messages.run import BadMessage, decode_run_message, encode_run_message

#: As the C++ translator sends it (recorded): every scalar is a string, slashes are escaped.
ADARA = rb"""{
    "msg_type": "2687500289", "src_id": "STC_18852", "dest_id": "", "timestamp": "1795393423",
    "facility": "SNS", "instrument": "HYS", "ipts": "IPTS-12345", "run_number": "1001",
    "data_file": "\/SNS\/HYS\/IPTS-12345\/nexus\/HYS_1001.nxs.h5", "host": "vm"
}"""


def test_a_message_of_the_cpp_translator_is_understood() -> None:
    message = decode_run_message(ADARA)
    assert (message.facility, message.instrument, message.ipts) == ("SNS", "HYS", "IPTS-12345")
    assert message.run_number == 1001
    assert message.data_file == "/SNS/HYS/IPTS-12345/nexus/HYS_1001.nxs.h5"


def test_unknown_keys_are_carried_on_unchanged() -> None:
    sent = json.loads(encode_run_message(decode_run_message(ADARA)))
    received = json.loads(ADARA)
    assert {key: value for key, value in sent.items() if key != "run_number"} == {
        key: value for key, value in received.items() if key != "run_number"
    }
    assert sent["run_number"] == 1001


def test_attempt_and_cycle_travel_under_our_own_keys() -> None:
    message = decode_run_message(ADARA).replace(attempt=3, cycle=2)
    assert json.loads(encode_run_message(message))["nf_attempt"] == 3
    assert decode_run_message(encode_run_message(message)) == message


@pytest.mark.parametrize(
    ("path", "instrument", "run"),
    [
        ("/SNS/EQSANS/IPTS-1234/nexus/EQSANS_5678.nxs.h5", "EQSANS", 5678),
        ("/SNS/REF_M/IPTS-1234/nexus/REF_M_5678.nxs.h5", "REF_M", 5678),
        ("/SNS/EQSANS/IPTS-10674/0/30892/NeXus/EQSANS_30892_event.nxs", "EQSANS", 30892),
    ],
)
def test_a_body_that_is_a_bare_path_is_understood(path: str, instrument: str, run: int) -> None:
    message = decode_run_message(path.encode())
    assert (message.facility, message.instrument, message.run_number, message.data_file) == (
        "SNS",
        instrument,
        run,
        path,
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"null", "no object"),
        (b"[1]", "no object"),
        (b"{}", "'facility' is missing"),
        (b'{"facility":"SNS","instrument":"HYS"}', "'run_number' is missing"),
        (b'{"facility":"SNS","instrument":"HYS","run_number":"10o1"}', "no whole number"),
        (b'{"facility":"SNS","instrument":"HYS","run_number":1.5}', "no whole number"),
        (b'{"facility":"SNS","instrument":"HYS","run_number":true}', "no whole number"),
        (b'{"facility":"SNS","instrument":["HYS"],"run_number":1}', "'instrument' is not text"),
        (b'{"facility":"SNS","instrument":"H\\u0000YS","run_number":1}', "NUL"),
        (b"/SNS/HYS/nothing", "not like that of a run"),
        (b"[" * 100_000, "not JSON"),
        (b" " * 1_000_001, "more than"),
    ],
)
def test_what_is_no_run_message_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        decode_run_message(body)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadMessage):
        message = decode_run_message(body)
        assert decode_run_message(encode_run_message(message)) == message
