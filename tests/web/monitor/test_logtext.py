from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from neutronflow.web.monitor.logtext import MAX_LINES, lines_of, plain_text
from neutronflow.web.monitor.words import hint


def test_markup_in_a_log_stays_text() -> None:
    lines, _ = lines_of("<script>alert(1)</script>\n\x1b[31m<img src=x onerror=alert(1)>\x1b[0m")
    assert lines[0].html == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert lines[1].html == '<span class="a-red">&lt;img src=x onerror=alert(1)&gt;</span>'


def test_colours_go_on_over_lines_until_they_are_reset() -> None:
    lines, _ = lines_of("\x1b[1;31mone\ntwo\x1b[22m three\x1b[0m four")
    assert [line.html for line in lines] == [
        '<span class="a-red a-bold">one</span>',
        '<span class="a-red a-bold">two</span><span class="a-red"> three</span> four',
    ]


def test_what_a_progress_bar_has_overwritten_is_gone() -> None:
    lines, _ = lines_of("10 %\r50 %\r100 %\r\ndone\n")
    assert [line.html for line in lines] == ["100 %", "done"]


def test_lines_of_errors_and_warnings_are_marked() -> None:
    lines, _ = lines_of("fine\nWARNING: low\nTraceback (most recent call last):\nKeyError: 'x'\nno error here")
    assert [line.level for line in lines] == ["", "warn", "error", "error", ""]


def test_of_a_very_long_log_the_last_lines_are_shown_with_their_numbers() -> None:
    lines, left_out = lines_of("\n" * (MAX_LINES + 10) + "end")
    assert len(lines) == MAX_LINES
    assert left_out == 11
    assert lines[-1].number == MAX_LINES + 11
    assert lines[-1].html == "end"


def test_an_empty_log_has_no_lines() -> None:
    assert lines_of("") == ([], 0)


def test_the_download_has_no_escape_sequences() -> None:
    assert plain_text("\x1b]0;title\x07\x1b[31mred\x1b[0m") == "red"


@given(st.text(alphabet=st.sampled_from("a<>&\"'\x1b[]0;1m9K\r\n\x07\x00\x7f\u202e"), max_size=300))
def test_no_log_makes_anything_but_spans_of_known_classes(text: str) -> None:
    for line in lines_of(text)[0]:
        rest = re.sub(r'<span class="(a-[a-z]+ ?)+">|</span>', "", line.html)
        assert not re.search(r"[<>\"'\x00-\x08\x0b-\x1f\x7f\u202e]", rest)
        assert line.html.count("<span") == line.html.count("</span>")


def test_known_errors_have_a_hint_and_others_none() -> None:
    assert "memory" in hint("REDUCTION: killed by signal 9, SIGKILL")
    assert "was away" in hint("ONCAT: The catalog cannot be reached at x")
    assert hint("something else") == ""
