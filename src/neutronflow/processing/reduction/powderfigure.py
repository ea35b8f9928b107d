"""The picture of a powder run: intensity over plane spacing."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neutronflow.clients.plotstyle import AXIS, log_switch, page_layout
from neutronflow.processing.reduction.powder import Focused
from plot_publisher import plotly_div


def pattern_html(focused: Focused) -> str:
    """A ``<div>`` with a Plotly figure; its buttons switch the intensity to a logarithmic axis."""
    # By µC, as numbers are handier then.
    data = focused.by_charge.to(unit="counts/uC") if focused.by_charge is not None else focused.pattern
    edges = data.coords["dspacing"].values
    # Intensity over spacing: bins of different width are to be compared.
    width = np.diff(edges)
    intensity, error = data.values / width, np.sqrt(data.variances) / width
    unit = "counts/µC/Å" if focused.by_charge is not None else "counts/Å"
    shown = _shown(intensity)
    middle = 0.5 * (edges[1:] + edges[:-1])
    trace = _trace(middle[shown], intensity[shown], error[shown], unit)
    layout = {
        **page_layout(_title(focused)),
        "xaxis": {**AXIS, "title": {"text": "d-spacing (Å)"}},
        "yaxis": {**AXIS, "title": {"text": f"Intensity ({unit})"}, "rangemode": "tozero", "automargin": True},
        "updatemenus": [log_switch()],
    }
    info = focused.info
    heading = html.escape(f"{info.instrument} {info.run_number} · {info.title}")
    return (
        f'<div style="font-family:sans-serif"><div style="padding:8px 12px 0">{heading}</div>'
        f"{plotly_div([trace], layout, width='100%', height='420px')}</div>"
    )


def _title(focused: Focused) -> str:
    info = focused.info
    mark = " (simulated)" if info.simulated else ""
    return f"{info.instrument} run {info.run_number}{mark}: powder pattern, {focused.total_counts:,} counts"


def _shown(intensity: NDArray[np.float64]) -> slice:
    """The bins from the first to the last with anything in them."""
    filled = np.flatnonzero(intensity)
    return slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(None)


def _trace(
    spacing: NDArray[np.float64], intensity: NDArray[np.float64], error: NDArray[np.float64], unit: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "line": {"shape": "hvh", "width": 1.2, "color": "#1f6feb"},
        "x": np.round(spacing, 5),
        "y": intensity,
        "error_y": {
            "type": "data",
            "array": error,
            "visible": True,
            "thickness": 0.6,
            "width": 0,
            "color": "rgba(31,111,235,0.35)",
        },
        "hovertemplate": f"d %{{x:.4f}} Å<br>%{{y:.4g}} ± %{{error_y.array:.2g}} {unit}<extra></extra>",
        "showlegend": False,
    }
