"""Bodies that no service must stumble over, by what is wrong with them."""

from __future__ import annotations

import json

GOOD = {"facility": "SNS", "instrument": "HYS", "ipts": "IPTS-1", "run_number": 1_999_999_999, "data_file": ""}


def _with(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"17",
    "text": b'"run"',
    "true": b"true",
    "an empty object": b"{}",
    "no JSON": b"this is not JSON",
    "half an object": b'{"facility": "SNS", "instrument"',
    "invalid UTF-8": b'{"facility": "\xff\xfe"}',
    "NUL bytes": b"\0\0\0\0",
    "UTF-16": '{"facility": "SNS"}'.encode("utf-16"),
    "NaN": b'{"facility": NaN}',
    "a huge number": b'{"facility": "SNS", "instrument": "HYS", "run_number": 1e999}',
    "a thousand keys of nesting": b"[" * 50_000 + b"]" * 50_000,
    "two megabytes": _with(information="x" * 2_000_000),
    "long text": _with(instrument="H" * 5000),
    "a NUL in a name": _with(instrument="HY\0S"),
    "a NUL in an error": _with(error="bad\0"),
    "a lone surrogate": b'{"facility": "SNS", "instrument": "\\ud800", "run_number": 1}',
    "markup as experiment": _with(ipts="<script>alert(1)</script>"),
    "SQL as instrument": _with(instrument="a';drop table run;--"),
    "a path as instrument": _with(instrument="../../etc"),
    "a hyphen first": _with(instrument="-HYS"),
    "another facility": _with(facility="ELSEWHERE"),
    "a list as facility": _with(facility=["SNS"]),
    "an object as run number": _with(run_number={"$gt": 0}),
    "a negative run number": _with(run_number=-5),
    "run number zero": _with(run_number=0),
    "a run number beyond bounds": _with(run_number=2**63),
    "a fraction as run number": _with(run_number=1.5),
    "words as run number": _with(run_number="one"),
    "true as run number": _with(run_number=True),
    "no run number": json.dumps({key: value for key, value in GOOD.items() if key != "run_number"}).encode(),
    "a file elsewhere": _with(data_file="/etc/passwd"),
    "a bare path that is none": b"/SNS/HYS/nothing",
    "an unknown run": _with(run_number=2_000_000_000),
}
