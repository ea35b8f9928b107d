"""The STOMP 1.1 and 1.2 frame codec, shared by our session and the embedded broker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from neutronflow.foundation.errors import NeutronflowError

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 200
MAX_BODY_BYTES: Final = 16 * 1024 * 1024

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_UNESCAPED = {"\\r": "\r", "\\n": "\n", "\\c": ":", "\\\\": "\\"}
_ESCAPE = re.compile(r"\\.?", re.DOTALL)
_NEEDS_ESCAPE = re.compile(r"[\\\r\n:]")
_ESCAPED = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"}
#: These two are exchanged before a version is agreed on, and are not escaped (STOMP 1.2).
_NEVER_ESCAPED = frozenset(["CONNECT", "CONNECTED"])


class BadFrame(NeutronflowError):
    """The STOMP frame cannot be understood: {detail}."""

    code = "bad-frame"


@dataclass(frozen=True, slots=True)
class Frame:
    """One STOMP frame; of repeated headers the first is kept. The content-length is not among them: the body has it."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def to_bytes(self) -> bytes:
        """The frame as it goes over the wire, with its content-length where there is a body."""
        lines = [self.command]
        escape = self.command not in _NEVER_ESCAPED
        for name, value in self.headers.items():
            if name != "content-length":
                lines.append(f"{_escape(name)}:{_escape(value)}" if escape else f"{name}:{value}")
        if self.body:
            lines.append(f"content-length:{len(self.body)}")
        return "\n".join(lines).encode() + b"\n\n" + self.body + b"\0"

    def excess(self, max_body_bytes: int = MAX_BODY_BYTES) -> str | None:
        """What of it is beyond the limits of a :class:`FrameParser`, if so."""
        if len(self.body) > max_body_bytes:
            return f"its body of {len(self.body)} bytes is longer than {max_body_bytes}"
        if len(self.headers) >= MAX_HEADERS:
            return f"it has more than {MAX_HEADERS} headers"
        # A character becomes four bytes at most; only where that may be too much it is worth to look closely.
        if 4 * sum(len(name) + len(value) + 2 for name, value in self.headers.items()) < MAX_HEADER_BYTES // 2:
            return None
        is_long = len(self.to_bytes()) - len(self.body) >= MAX_HEADER_BYTES
        return f"its headers are longer than {MAX_HEADER_BYTES} bytes" if is_long else None


@dataclass(frozen=True, slots=True)
class _Head:
    """The headers of a frame whose body is still on its way. Positions count from the frame's first byte."""

    command: str
    headers: Mapping[str, str]
    body_at: int
    #: Where the body ends; None where only a NUL says so.
    end: int | None


class FrameParser:
    """Cuts a byte stream into frames. After a :class:`BadFrame` it is of no more use."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        #: May be changed at any time; it holds for the frames whose headers have not come yet.
        self.max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._head: _Head | None = None
        #: What was searched already for the end of the headers, or of the body, from the frame's first byte on.
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete; heart-beats (lone line ends between frames) are skipped."""
        self._buffer += data
        at = 0
        try:
            while True:
                at = self._skip_line_ends(at)
                found = self._next(at)
                if found is None:
                    return
                frame, at = found
                yield frame
        finally:
            del self._buffer[:at]

    def _skip_line_ends(self, at: int) -> int:
        buffer = self._buffer
        while at < len(buffer) and buffer[at] in b"\r\n":
            at += 1
        return at

    def _next(self, at: int) -> tuple[Frame, int] | None:
        """The frame that starts at ``at`` and where it ends, if all of it is there."""
        head = self._head
        if head is None:
            head = self._head = self._next_head(at)
            if head is None:
                return None
        body_at, end = at + head.body_at, self._body_end(at, head)
        if end is None:
            return None
        self._head, self._searched = None, 0
        return Frame(head.command, head.headers, bytes(self._buffer[body_at:end])), end + 1

    def _next_head(self, at: int) -> _Head | None:
        buffer = self._buffer
        # The blank line is up to four bytes, of which three may have come before.
        found = _BLANK_LINE.search(buffer, max(at, at + self._searched - 3), at + MAX_HEADER_BYTES)
        if buffer.find(0, at + self._searched, found.start() if found else at + MAX_HEADER_BYTES) >= 0:
            raise BadFrame(detail="it ends within its headers")
        if found is None:
            self._searched = len(buffer) - at
            if self._searched >= MAX_HEADER_BYTES:
                raise BadFrame(detail=f"its headers are longer than {MAX_HEADER_BYTES} bytes")
            return None
        command, headers = _parse_head(bytes(buffer[at : found.start()]))
        body_at = self._searched = found.end() - at
        length = headers.pop("content-length", None)
        end = None if length is None else body_at + _content_length(length, self.max_body_bytes)
        return _Head(command, headers, body_at, end)

    def _body_end(self, at: int, head: _Head) -> int | None:
        buffer = self._buffer
        if head.end is not None:
            end = at + head.end
            if len(buffer) <= end:
                return None
            if buffer[end] != 0:
                raise BadFrame(detail=f"no NUL follows its {head.end - head.body_at} bytes of body")
            return end
        end = buffer.find(0, at + self._searched)
        # Where the NUL has not come yet, what is there counts.
        if (end if end >= 0 else len(buffer)) - at - head.body_at > self.max_body_bytes:
            raise BadFrame(detail=f"its body is longer than {self.max_body_bytes} bytes")
        if end < 0:
            self._searched = len(buffer) - at
            return None
        return end


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    try:
        lines = head.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadFrame(detail="its headers are not UTF-8") from error
    command = lines[0]
    if not (command.isascii() and command.isalpha() and command.isupper() and len(command) <= 20):
        raise BadFrame(detail=f"there is no command {command[:20]!r}")
    if len(lines) > MAX_HEADERS:
        raise BadFrame(detail=f"it has more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    escaped = command not in _NEVER_ESCAPED
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadFrame(detail=f"the header {line[:40]!r} has no colon")
        if escaped and "\\" in line:
            name, value = _unescape(name), _unescape(value)
        headers.setdefault(name, value)
    return command, headers


def _content_length(text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise BadFrame(detail=f"the content-length {text[:20]!r} is no number")
    length = int(text)
    if length > limit:
        raise BadFrame(detail=f"a body of {length} bytes is longer than {limit}")
    return length


def _escape(text: str) -> str:
    if not _NEEDS_ESCAPE.search(text):
        return text
    return _NEEDS_ESCAPE.sub(lambda found: _ESCAPED[found[0]], text)


def _unescape(text: str) -> str:
    def replacement(found: re.Match[str]) -> str:
        try:
            return _UNESCAPED[found[0]]
        except KeyError:
            raise BadFrame(detail=f"there is no escape {found[0]!r}") from None

    return _ESCAPE.sub(replacement, text)
