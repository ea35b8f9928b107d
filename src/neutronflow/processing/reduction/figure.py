"""The run's picture: TOF spectrum and detector image side by side, to be zoomed and hovered over."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from neutronflow.clients.plotstyle import AXIS, log_switch, page_layout
from neutronflow.processing.reduction.detector import coarsened
from neutronflow.processing.reduction.reduce import Reduced
from plot_publisher import plotly_div

#: An image is drawn with at most so many cells.
MAX_CELLS = 40_000


# At most two columns. auto-fill, not auto-fit or flex: the first figure is drawn while the second is not there yet.
_GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,max(360px,45%)),1fr))"


def figure_html(reduced: Reduced) -> str:
    """A ``<div>`` with two Plotly figures: side by side where there is room, below each other on a phone.

    The buttons of the spectrum switch its counts to a logarithmic axis.
    """
    image, block = coarsened(reduced.image.values, MAX_CELLS)
    panels = (
        plotly_div([_spectrum(reduced)], _spectrum_layout(reduced), width="100%", height="420px"),
        plotly_div([_image(image, block)], _image_layout(block), width="100%", height="420px"),
    )
    info = reduced.info
    heading = html.escape(f"{info.instrument} {info.run_number} · {info.title}")
    columns = "".join(f'<div style="min-width:0">{panel}</div>' for panel in panels)
    return (
        f'<div style="font-family:sans-serif"><div style="padding:8px 12px 0">{heading}</div>'
        f'<div style="{_GRID}">{columns}</div></div>'
    )


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
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": "counts", "side": "right"}, "thickness": 12},
        "hovertemplate": "tube %{x:.0f}, pixel %{y:.0f}<br>%{z} counts<extra></extra>",
    }


def _spectrum_layout(reduced: Reduced) -> dict[str, Any]:
    edges = reduced.spectrum.coords["tof"].values
    return {
        **page_layout(f"TOF spectrum, {reduced.total_counts:,} counts"),
        "xaxis": {**AXIS, "title": {"text": "Time of flight (µs)"}},
        "yaxis": {**AXIS, "title": {"text": f"Counts per {edges[1] - edges[0]:g} µs"}, "rangemode": "tozero"},
        "updatemenus": [log_switch()],
    }


def _image_layout(block: int) -> dict[str, Any]:
    return {
        **page_layout("Counts per pixel" if block == 1 else f"Counts per {block} × {block} pixels"),
        "xaxis": {**AXIS, "title": {"text": "Tube"}, "showgrid": False},
        "yaxis": {**AXIS, "title": {"text": "Pixel along tube"}, "showgrid": False},
    }
