"""A live picture as a page fragment."""

from __future__ import annotations

import html
import time
from typing import Any

from neutronflow.clients.plotstyle import AXIS, log_switch, page_layout
from neutronflow.instrument.livereduce.histogram import Picture
from plot_publisher import plotly_div

_LINE = {"shape": "hvh", "width": 1.2, "color": "#1f6feb"}


def picture_html(picture: Picture, instrument: str) -> str:
    """A ``<div>`` with two figures: counts over time of flight, and count rate over the time since the run began."""
    simulated = " (simulated)" if picture.simulated and "simulated" not in picture.title else ""
    when = time.strftime("%H:%M:%S", time.gmtime(picture.last_pulse))
    heading = html.escape(
        f"{instrument} {picture.run_number} · {picture.title}{simulated} · live, {picture.total:,} counts"
        f" in {picture.pulses:,} pulses, until {when} UTC"
    )
    panels = (
        plotly_div([_spectrum(picture)], _spectrum_layout(picture), width="100%", height="420px"),
        plotly_div([_rate(picture)], _rate_layout(), width="100%", height="200px"),
    )
    return f'<div style="font-family:sans-serif"><div style="padding:8px 12px 0">{heading}</div>{"".join(panels)}</div>'


def _spectrum(picture: Picture) -> dict[str, Any]:
    edges = picture.edges_us
    return {
        "type": "scatter",
        "mode": "lines",
        "line": _LINE,
        "x": 0.5 * (edges[1:] + edges[:-1]),
        "y": picture.counts,
        "hovertemplate": "TOF %{x:.0f} µs<br>%{y:.0f} counts<extra></extra>",
        "showlegend": False,
    }


def _spectrum_layout(picture: Picture) -> dict[str, Any]:
    edges = picture.edges_us
    return {
        **page_layout("TOF spectrum, live"),
        "xaxis": {**AXIS, "title": {"text": "Time of flight (µs)"}},
        "yaxis": {**AXIS, "title": {"text": f"Counts per {edges[1] - edges[0]:.4g} µs"}, "rangemode": "tozero"},
        "updatemenus": [log_switch()],
    }


def _rate(picture: Picture) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "line": {**_LINE, "shape": "linear"},
        "x": picture.at_s,
        "y": picture.rate,
        "hovertemplate": "%{x:.0f} s<br>%{y:,.0f} counts/s<extra></extra>",
        "showlegend": False,
    }


def _rate_layout() -> dict[str, Any]:
    return {
        **page_layout("Count rate"),
        "height": 200,
        "margin": {"t": 35, "b": 45, "l": 65, "r": 20},
        "xaxis": {**AXIS, "title": {"text": "Time since the run began (s)"}, "rangemode": "tozero"},
        "yaxis": {**AXIS, "title": {"text": "1/s"}, "rangemode": "tozero"},
    }
