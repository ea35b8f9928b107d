"""The run's picture: TOF spectrum and detector image side by side, to be zoomed and hovered over."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from neutronflow.processing.reduction.detector import coarsened
from neutronflow.processing.reduction.reduce import Reduced
from plot_publisher import plotly_div

#: An image is drawn with at most so many cells.
MAX_CELLS = 40_000


def figure_html(reduced: Reduced) -> str:
    """A Plotly ``<div>`` with both panels; the button above the spectrum switches its counts to a logarithmic axis."""
    image, block = coarsened(reduced.image.values, MAX_CELLS)
    return plotly_div([_spectrum(reduced), _image(image, block)], _layout(reduced, block), width="100%", height="480px")


def _spectrum(reduced: Reduced) -> dict[str, Any]:
    edges = reduced.spectrum.coords["tof"].values
    return {
        "type": "scatter",
        "mode": "lines",
        "line": {"shape": "hvh", "width": 1.2, "color": "#1f6feb"},
        "x": 0.5 * (edges[1:] + edges[:-1]),
        "y": reduced.spectrum.values,
        "error_y": {
            "type": "data",
            "array": np.round(np.sqrt(reduced.spectrum.variances), 3),
            "visible": True,
            "thickness": 0.6,
            "width": 0,
            "color": "rgba(31,111,235,0.35)",
        },
        "hovertemplate": "TOF %{x:.0f} µs<br>%{y:.0f} ± %{error_y.array:.1f} counts<extra></extra>",
        "showlegend": False,
    }


def _image(values: np.ndarray[Any, np.dtype[np.float64]], block: int) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "z": values.astype(np.int64),
        "x0": (block - 1) / 2,
        "dx": block,
        "y0": (block - 1) / 2,
        "dy": block,
        "xaxis": "x2",
        "yaxis": "y2",
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": "counts", "side": "right"}, "thickness": 12, "x": 1.01},
        "hovertemplate": "tube %{x:.0f}, pixel %{y:.0f}<br>%{z} counts<extra></extra>",
    }


def _layout(reduced: Reduced, block: int) -> dict[str, Any]:
    info, edges = reduced.info, reduced.spectrum.coords["tof"].values
    per_bin = f"counts / {edges[1] - edges[0]:g} µs"
    title = html.escape(f"{info.instrument} {info.run_number}  {info.title[:80]}", quote=False)
    what = "Counts per pixel" if block == 1 else f"Counts per {block} × {block} pixels"
    return {
        "title": {"text": title, "x": 0.01, "xanchor": "left", "font": {"size": 15}},
        "autosize": True,
        "height": 480,
        "margin": {"t": 90, "b": 55, "l": 65, "r": 70},
        "hovermode": "closest",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": {**_AXIS, "domain": [0.0, 0.53], "title": {"text": "Time of flight (µs)"}},
        "yaxis": {**_AXIS, "title": {"text": per_bin}, "rangemode": "tozero"},
        "xaxis2": {**_AXIS, "domain": [0.63, 1.0], "anchor": "y2", "title": {"text": "tube"}, "showgrid": False},
        "yaxis2": {**_AXIS, "anchor": "x2", "title": {"text": "pixel along tube"}, "showgrid": False},
        "annotations": [
            _caption(f"TOF spectrum, {reduced.total_counts:,} counts", 0.0),
            _caption(what, 0.63),
        ],
        "updatemenus": [_log_switch()],
    }


_AXIS = {"showline": True, "mirror": True, "ticks": "outside", "linecolor": "#57606a", "gridcolor": "#e6e8eb"}


def _caption(text: str, x: float) -> dict[str, Any]:
    where = {"x": x, "xref": "paper", "xanchor": "left", "y": 1.01, "yref": "paper", "yanchor": "bottom"}
    return {**where, "text": text, "showarrow": False, "font": {"size": 12, "color": "#57606a"}}


def _log_switch() -> dict[str, Any]:
    def button(label: str, kind: str) -> dict[str, Any]:
        return {"label": label, "method": "relayout", "args": [{"yaxis.type": kind, "yaxis.autorange": True}]}

    return {
        "type": "buttons",
        "direction": "right",
        "buttons": [button("linear", "linear"), button("log", "log")],
        "x": 0.53,
        "xanchor": "right",
        "y": 1.02,
        "yanchor": "bottom",
        "pad": {"t": 0, "r": 0, "b": 0, "l": 0},
        "font": {"size": 11},
        "showactive": True,
    }
