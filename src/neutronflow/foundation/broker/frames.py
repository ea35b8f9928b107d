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
    """One STOMP frame; of repeated headers the first is kept."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def to_bytes(self) -> bytes:
        """The frame as it goes over the wire, with its content-length."""
        lines = [self.command]
        escape = self.command not in _NEVER_ESCAPED
        for name, value in self.headers.items():
            if name != "content-length":
                lines.append(f"{_escape(name)}:{_escape(value)}" if escape else f"{name}:{value}")
        if self.body:
            lines.append(f"content-length:{len(self.body)}")
        return "\n".join(lines).encode() + b"\n\n" + self.body + b"\0"


class FrameParser:
    """Cuts a byte stream into frames. After a :class:`BadFrame` it is of no more use."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._buffer = bytearray()
        self._max_body = max_body_bytes
        #: Where the search for the end of the current header block, or of a body without a length, goes on.
        self._scan = 0

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
                self._scan = 0
                yield frame
        finally:
            del self._buffer[:at]

    def _skip_line_ends(self, at: int) -> int:
        buffer = self._buffer
        while at < len(buffer) and buffer[at] in b"\r\n":
            at += 1
        return at

    def _next(self, at: int) -> tuple[Frame, int] | None:
        buffer = self._buffer
        head_end = _BLANK_LINE.search(buffer, at, at + MAX_HEADER_BYTES)
        if head_end is None:
            if len(buffer) - at >= MAX_HEADER_BYTES:
                raise BadFrame(detail=f"its headers are longer than {MAX_HEADER_BYTES} bytes")
            return None
        command, headers = _parse_head(bytes(buffer[at : head_end.start()]))
        body_at = head_end.end()
        if "content-length" in headers:
            end = body_at + _content_length(headers["content-length"], self._max_body)
            if len(buffer) <= end:
                return None
            if buffer[end] != 0:
                raise BadFrame(detail=f"no NUL follows its {end - body_at} bytes of body")
        else:
            end = buffer.find(0, max(body_at, at + self._scan))
            if end < 0:
                self._scan = len(buffer) - at
                if len(buffer) - body_at > self._max_body:
                    raise BadFrame(detail=f"its body is longer than {self._max_body} bytes")
                return None
        return Frame(command, headers, bytes(buffer[body_at:end])), end + 1


def _parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    try:
        lines = head.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadFrame(detail="its headers are not UTF-8") from error
    command = lines[0]
    if not command.isascii() or not command.isupper() or len(command) > 20:
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
