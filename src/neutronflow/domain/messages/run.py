"""The run message: the one shape used on every workflow queue.

Tolerant in what is taken: numbers as strings (ADARA writes every scalar as a JSON string), any case, unknown keys (kept and
carried on), the legacy body that is a bare path. Exact in what is sent.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from neutronflow.foundation.errors import NeutronflowError

MAX_BODY_BYTES = 1_000_000
_MAX_TEXT = 4096
_LEGACY_NAME = re.compile(r"(?P<instrument>[A-Za-z0-9][A-Za-z0-9_-]*?)_(?P<run>\d{1,10})(?:_[a-z]+)?\.nxs(?:\.h5)?\Z")


class BadMessage(NeutronflowError):
    """The message cannot be understood: {detail}."""

    code = "bad-message"


class RunMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One run, and what is said of it.

    ``attempt`` and ``cycle`` are ours (``nf_attempt``, ``nf_cycle`` on the wire); ``extra`` holds every key that is not
    ours to understand. Names are as received; checking them is :mod:`neutronflow.domain.facility`'s.
    """

    facility: str
    instrument: str
    ipts: str
    run_number: int
    data_file: str
    information: str = ""
    error: str = ""
    attempt: int | None = None
    cycle: int | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)

    def replace(self, **changes: Any) -> RunMessage:
        """A copy with these fields changed."""
        return msgspec.structs.replace(self, **changes)


def decode_object(body: bytes, max_bytes: int) -> dict[str, Any]:
    """The JSON object that a message's body has to be. Raises :class:`BadMessage` saying why it is none."""
    if len(body) > max_bytes:
        raise BadMessage(detail=f"it has {len(body)} bytes, more than {max_bytes}")
    try:
        values = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(detail=f"it is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadMessage(detail=f"it is JSON, but no object: {type(values).__name__}")
    return values


def decode_run_message(body: bytes) -> RunMessage:
    """Read a run message. Raises :class:`BadMessage` saying what is wrong with it."""
    if len(body) <= MAX_BODY_BYTES and body.lstrip()[:1] == b"/":
        return _from_path(body)
    extra = decode_object(body, MAX_BODY_BYTES)
    return RunMessage(
        facility=_text(extra, "facility", required=True),
        instrument=_text(extra, "instrument", required=True),
        ipts=_text(extra, "ipts"),
        run_number=_integer(extra, "run_number"),
        data_file=_text(extra, "data_file"),
        information=_text(extra, "information"),
        error=_text(extra, "error"),
        attempt=_optional_integer(extra, "nf_attempt"),
        cycle=_optional_integer(extra, "nf_cycle"),
        extra=extra,
    )


def encode_run_message(message: RunMessage) -> bytes:
    """The JSON body of a run message, with every unknown key it came with."""
    values: dict[str, Any] = {
        **message.extra,
        "facility": message.facility,
        "instrument": message.instrument,
        "ipts": message.ipts,
        "run_number": message.run_number,
        "data_file": message.data_file,
    }
    if message.information:
        values["information"] = message.information
    if message.error:
        values["error"] = message.error
    if message.attempt is not None:
        values["nf_attempt"] = message.attempt
    if message.cycle is not None:
        values["nf_cycle"] = message.cycle
    return msgspec.json.encode(values)


def _text(values: dict[str, Any], key: str, *, required: bool = False) -> str:
    value = values.pop(key, "")
    if value is None:
        value = ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadMessage(detail=f"'{key}' is not text")
    text = str(value)
    if len(text) > _MAX_TEXT or "\0" in text:
        raise BadMessage(detail=f"'{key}' is longer than {_MAX_TEXT} characters or holds a NUL")
    if required and not text.strip():
        raise BadMessage(detail=f"'{key}' is missing")
    return text


def _integer(values: dict[str, Any], key: str) -> int:
    number = _optional_integer(values, key)
    if number is None:
        raise BadMessage(detail=f"'{key}' is missing")
    return number


def _optional_integer(values: dict[str, Any], key: str) -> int | None:
    value = values.pop(key, None)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value):
        return int(value)
    raise BadMessage(detail=f"'{key}' is no whole number: {str(value)[:40]!r}")


def _from_path(body: bytes) -> RunMessage:
    """``/<FACILITY>/<INSTRUMENT>/<IPTS>/.../<INSTRUMENT>_<run>[_event].nxs[.h5]``, with instruments such as REF_M."""
    try:
        path = body.decode().strip()
    except UnicodeDecodeError as error:
        raise BadMessage(detail="it looks like a path but is not UTF-8") from error
    parts = path.split("/")
    match = _LEGACY_NAME.match(parts[-1])
    if len(parts) < 6 or match is None or len(path) > _MAX_TEXT or "\0" in path:
        raise BadMessage(detail=f"it looks like a path, but not like that of a run: {path[:200]!r}")
    return RunMessage(
        facility=parts[1], instrument=parts[2], ipts=parts[3], run_number=int(match["run"]), data_file=path
    )
