"""Logs of scripts as lines of HTML: colours become classes, everything else that a terminal obeys is dropped. Pure."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

#: A page shows so many lines, the last ones; the download has all.
MAX_LINES = 5000
_MAX_LINE = 4000

_ESCAPE = re.compile(r"\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_LEVEL = re.compile(r"\b(?:(ERROR|CRITICAL|FATAL|Traceback|[A-Z]\w*(?:Error|Exception):)|(WARN(?:ING)?))")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. ``html`` is safe; ``level`` is ``error``, ``warn`` or empty."""

    number: int
    html: str
    level: str


def lines_of(text: str) -> tuple[list[Line], int]:
    """The lines to show, and how many before them are left out."""
    rows = text.rstrip("\n").split("\n") if text else []
    left_out = max(0, len(rows) - MAX_LINES)
    style = ""
    lines = []
    for number, row in enumerate(rows[left_out:], left_out + 1):
        # What a progress bar has overwritten is not wanted.
        shown = row.rstrip("\r").rpartition("\r")[2][:_MAX_LINE]
        plain = _ESCAPE.sub("", shown)
        found = _LEVEL.search(plain)
        level = "" if found is None else "error" if found[1] else "warn"
        rendered, style = _render(shown, style)
        lines.append(Line(number, rendered, level))
    return lines, left_out


def plain_text(text: str) -> str:
    """The log without escape sequences, for the download."""
    return _ESCAPE.sub("", text)


def _render(row: str, style: str) -> tuple[str, str]:
    parts: list[str] = []
    at = 0
    for found in _ESCAPE.finditer(row):
        parts.append(_span(row[at : found.start()], style))
        at = found.end()
        if found[2] == "m":
            style = _restyled(style, found[1] or "0")
    parts.append(_span(row[at:], style))
    return "".join(parts), style


def _span(text: str, style: str) -> str:
    safe = html.escape(_CONTROL.sub("\ufffd", text))
    return f'<span class="{style}">{safe}</span>' if style and safe else safe


def _restyled(style: str, codes: str) -> str:
    """The classes after these SGR codes; unknown codes change nothing."""
    colour = next((word for word in style.split() if word != "a-bold"), "")
    bold = "a-bold" in style
    for text in codes.split(";")[:16]:
        code = int(text) if text.isdigit() and len(text) < 4 else 0
        if code == 0:
            colour, bold = "", False
        elif code == 1:
            bold = True
        elif code == 22:
            bold = False
        elif code == 39:
            colour = ""
        elif 30 <= code <= 37 or 90 <= code <= 97:
            colour = f"a-{_COLOURS[code % 10]}"
        elif code in (38, 48):
            # Colours of larger palettes; their parameters are no codes.
            break
    return " ".join(word for word in (colour, "a-bold" if bold else "") if word)
