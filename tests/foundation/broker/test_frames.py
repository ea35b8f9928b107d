from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neutronflow.foundation.broker.frames import MAX_HEADER_BYTES, MAX_HEADERS, BadFrame, Frame, FrameParser

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
FRAMES = st.builds(
    Frame,
    command=st.sampled_from(["SEND", "MESSAGE", "RECEIPT", "ERROR"]),
    headers=st.dictionaries(TEXT.filter(lambda name: name != "content-length"), TEXT, max_size=5),
    body=st.binary(max_size=50),
)

MALFORMED = {
    "lower case": b"send\ndestination:x\n\n\0",
    "no command": b":\n\n\0",
    "header without colon": b"SEND\ndestination\n\n\0",
    "unknown escape": b"SEND\nname:a\\tb\n\n\0",
    "escape at the end": b"SEND\nname:a\\\n\n\0",
    "length in words": b"SEND\ncontent-length:ten\n\n0123456789\0",
    "negative length": b"SEND\ncontent-length:-1\n\n\0",
    "length in other digits": "SEND\ncontent-length:٣\n\nabc\0".encode(),
    "length too small": b"SEND\ncontent-length:2\n\nabc\0",
    "body too long": b"SEND\ncontent-length:1001\n\n",
    "body too long, without length": b"SEND\n\n" + b"x" * 1001,
    "body too long, complete": b"SEND\n\n" + b"x" * 1001 + b"\0",
    "length of many digits": b"SEND\ncontent-length:" + b"9" * 5000 + b"\n\n",
    "headers that end": b"SEND\ndestination:x\0",
    "headers without end": b"SEND\n" + b"a:b\n" * 20_000,
    "too many headers": b"SEND\n" + b"a:b\n" * (MAX_HEADERS + 1) + b"\n\0",
    "no UTF-8": b"SEND\nname:\xff\n\n\0",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\n\n" + b"\0",
}


def parsed(data: bytes, piece: int | None = None) -> list[Frame]:
    parser = FrameParser(1000)
    size = piece or len(data)
    return [frame for at in range(0, len(data), size) for frame in parser.feed(data[at : at + size])]


@settings(deadline=None)  # other tests may have the processor
@given(st.lists(FRAMES, max_size=4), st.integers(1, 40))
def test_what_is_written_is_read_however_it_is_cut(frames: list[Frame], piece: int) -> None:
    data = b"\n".join(frame.to_bytes() for frame in frames)
    assert parsed(data, piece) == frames


@pytest.mark.parametrize("piece", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_frame_is_refused_and_the_good_one_before_it_is_not_lost(fault: str, piece: int | None) -> None:
    good = Frame("SEND", {"destination": "/queue/x"}, b"good")
    data = good.to_bytes() + MALFORMED[fault]
    parser = FrameParser(1000)
    size = piece or len(data)
    found: list[Frame] = []
    with pytest.raises(BadFrame):  # noqa: PT012 - which piece shows the fault is not said
        for at in range(0, len(data), size):
            for frame in parser.feed(data[at : at + size]):
                found.append(frame)
    assert found == [good]


@settings(deadline=None)  # other tests may have the processor
@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_give_frames_or_a_refusal(noise: bytes, piece: int) -> None:
    with contextlib.suppress(BadFrame):
        parsed(b"SEND\n" + noise, piece)


def test_line_ends_may_be_those_of_windows_and_heart_beats_are_skipped() -> None:
    data = b"\n\r\n\nSEND\r\ndestination:/queue/x\r\n\r\nbody\0\r\n\n"
    assert parsed(data) == parsed(data, 1) == [Frame("SEND", {"destination": "/queue/x"}, b"body")]


def test_of_repeated_headers_the_first_is_kept() -> None:
    assert parsed(b"SEND\nfoo:first\nfoo:second\n\n\0")[0].headers == {"foo": "first"}


def test_a_body_with_a_length_may_hold_nul() -> None:
    assert parsed(b"SEND\ncontent-length:5\n\na\0b\0c\0")[0].body == b"a\0b\0c"


def test_the_headers_of_connect_are_not_escaped() -> None:
    frame = Frame("CONNECT", {"passcode": "a:b\\c"})
    assert b"passcode:a:b\\c\n" in frame.to_bytes()
    assert parsed(frame.to_bytes()) == [frame]


def test_a_large_body_in_small_pieces_takes_time_in_proportion() -> None:
    parser = FrameParser()
    head = b"SEND\n" + b"".join(b"header%d:%s\n" % (number, b"x" * 200) for number in range(150)) + b"\n"
    began = time.perf_counter()
    assert list(parser.feed(head)) == []
    for _ in range(20_000):
        assert list(parser.feed(b"x" * 100)) == []
    (frame,) = parser.feed(b"\0")
    assert len(frame.body) == 2_000_000
    # Reading the headers or the body again with each piece would take minutes.
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Frame("SEND", {"a": "b"}, b"x" * 1001), "1001 bytes is longer than 1000"),
        (Frame("SEND", {"a": "é" * MAX_HEADER_BYTES}), "headers are longer"),
        (Frame("SEND", {str(number): "x" for number in range(MAX_HEADERS + 1)}), "more than 200 headers"),
    ],
)
def test_a_frame_that_a_receiver_would_refuse_is_known_before_it_is_sent(frame: Frame, reason: str) -> None:
    excess = frame.excess(1000)
    assert excess is not None
    assert reason in excess
    with pytest.raises(BadFrame):
        parsed(frame.to_bytes())


def test_a_frame_within_the_limits_has_no_excess() -> None:
    frame = Frame("SEND", {"a": "\n" * 20_000}, b"x" * 1000)
    assert frame.excess(1000) is None
    assert parsed(frame.to_bytes()) == [frame]
