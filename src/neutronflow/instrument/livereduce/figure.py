"""A live picture as a Plotly figure: counts over time of flight, and count rate over the time since the run began."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np

from neutronflow.clients.plotstyle import AXIS, log_switch, page_layout
from neutronflow.instrument.livereduce.histogram import Picture

_LINE = {"width": 1.2, "color": "#1f6feb"}


def picture_json(picture: Picture, instrument: str) -> bytes:
    """The figure, as JSON with ``data`` and ``layout``."""
    return msgspec.json.encode({"data": [_spectrum(picture), _rate(picture)], "layout": _layout(picture, instrument)})


def _spectrum(picture: Picture) -> dict[str, Any]:
    edges = picture.edges_us
    # Behind the last event there is nothing to be seen.
    filled = np.flatnonzero(picture.counts)
    shown = slice(0, int(filled[-1]) + 2 if len(filled) else None)
    return {
        "type": "scatter",
        "mode": "lines",
        "line": {**_LINE, "shape": "hvh"},
        "x": np.round(0.5 * (edges[1:] + edges[:-1]), 1)[shown].tolist(),
        "y": picture.counts[shown].tolist(),
        "hovertemplate": "TOF %{x:.0f} µs<br>%{y:.0f} counts<extra></extra>",
        "showlegend": False,
    }


def _rate(picture: Picture) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "line": _LINE,
        "x": picture.at_s.tolist(),
        "y": np.round(picture.rate, 1).tolist(),
        "xaxis": "x2",
        "yaxis": "y2",
        "hovertemplate": "%{x:.0f} s<br>%{y:,.0f} counts/s<extra></extra>",
        "showlegend": False,
    }


def _layout(picture: Picture, instrument: str) -> dict[str, Any]:
    simulated = " (simulated)" if picture.simulated else ""
    when = time.strftime("%H:%M:%S", time.gmtime(picture.last_pulse))
    # Plotly takes some HTML in titles; a run's own title is not shown for that reason.
    title = f"{instrument} run {picture.run_number}{simulated}, live: {picture.total:,} counts until {when} UTC"
    edges = picture.edges_us
    return {
        **page_layout(title),
        "height": 580,
        # What somebody has zoomed into stays so while the picture grows.
        "uirevision": str(picture.run_number),
        "xaxis": {**AXIS, "title": {"text": "Time of flight (µs)"}},
        "yaxis": {
            **AXIS,
            "title": {"text": f"Counts per {edges[1] - edges[0]:.4g} µs"},
            "rangemode": "tozero",
            "domain": [0.4, 1.0],
        },
        "xaxis2": {
            **AXIS,
            "title": {"text": "Time since the run began (s)"},
            "rangemode": "tozero",
            "anchor": "y2",
        },
        "yaxis2": {**AXIS, "title": {"text": "Counts/s"}, "rangemode": "tozero", "domain": [0.0, 0.24]},
        "updatemenus": [log_switch()],
    }
