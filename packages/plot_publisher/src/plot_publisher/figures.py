"""Plotly figures as HTML, made without plotly: traces and layout are plain dicts, Plotly.js draws them in the page."""

from __future__ import annotations

import json
import math
import re
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: The Plotly.js version that divs made here are written for.
PLOTLYJS_VERSION = "3.0.1"

_GRAPH_DIV = re.compile(r"<div\b(?P<attributes>[^>]*\bclass=\"[^\"]*\bplotly-graph-div\b[^\"]*\"[^>]*)>")


def plotly_div(
    traces: Sequence[Mapping[str, Any]],
    layout: Mapping[str, Any],
    *,
    width: str = "850px",
    height: str = "400px",
) -> str:
    """A ``<div>`` that draws the figure once Plotly.js is in the page.

    Arrays (anything with ``tolist``), NaN and infinities (drawn as gaps) may stand in ``traces`` and ``layout``. Text in
    them cannot break out of the script.
    """
    identifier = str(uuid.uuid4())
    figure = ", ".join((_script_json(list(traces)), _script_json(layout), '{"responsive": true}'))
    return (
        f'<div><div id="{identifier}" class="plotly-graph-div" style="height:{_css(height)}; width:{_css(width)};"'
        f' plotlyjs-version="{PLOTLYJS_VERSION}"></div>\n'
        f'<script type="text/javascript">window.PLOTLYENV=window.PLOTLYENV || {{}}; '
        f'if (document.getElementById("{identifier}")) {{ Plotly.newPlot("{identifier}", {figure}) }};</script></div>'
    )


def inject_plotlyjs_version(html: str) -> str:
    """Say in the first graph's ``<div>`` for which Plotly.js it was written, unless it says so already.

    The version is that of the plotly package, if the script has used it, else :data:`PLOTLYJS_VERSION`.
    """
    found = _GRAPH_DIV.search(html)
    if found is None or "plotlyjs-version=" in found["attributes"]:
        return html
    tag = f'<div{found["attributes"]} plotlyjs-version="{_plotlyjs_version()}">'
    return html[: found.start()] + tag + html[found.end() :]


def plain(value: Any) -> Any:
    """``value`` in what JSON knows: arrays become lists; NaN and infinities become ``None``."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return value


def _plotlyjs_version() -> str:
    offline = sys.modules.get("plotly.offline")
    return str(offline.get_plotlyjs_version()) if offline is not None else PLOTLYJS_VERSION


def _script_json(value: Any) -> str:
    # Inside <script>, "<" could begin "</script>" or "<!--"; U+2028 and U+2029 end a line in older JavaScript.
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c")


def _css(length: str) -> str:
    if not re.fullmatch(r"\d{1,5}(px|%|em|rem|vh|vw)", length):
        raise ValueError(f"{length!r} is no CSS length")
    return length
