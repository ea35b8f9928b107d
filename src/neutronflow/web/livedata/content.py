"""What an upload is: HTML with a plot in it, or JSON."""

from __future__ import annotations

import json
import re

from neutronflow.foundation.errors import NeutronflowError

_TYPES = {"0": "json", "json": "json", "1": "html", "html": "html", "div": "html"}
_HTML = re.compile(r"<(div|svg|img|table|html|!doctype)\b", re.IGNORECASE)


class NoPlot(NeutronflowError):
    """The upload is no plot: {detail}."""

    code = "no-plot"


def kind_of(data: bytes, data_type: str) -> str:
    """``html`` or ``json``. Raises :class:`NoPlot` saying why it is neither."""
    if data_type and data_type not in _TYPES:
        raise NoPlot(detail=f"there is no data type '{data_type[:20]}'")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NoPlot(detail=f"byte {error.start} is not UTF-8") from error
    kind = _TYPES.get(data_type) or ("html" if text.lstrip("\ufeff").lstrip()[:1] == "<" else "json")
    if kind == "html":
        if not _HTML.search(text):
            raise NoPlot(detail="it is HTML without a <div>")
        return kind
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoPlot(detail="it is neither HTML with a <div> nor JSON") from error
    return kind
