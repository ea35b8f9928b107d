"""How plots look: what the figures of reductions and live pictures have in common, as Plotly has it."""

from __future__ import annotations

from typing import Any


def page_layout(title: str) -> dict[str, Any]:
    """What all figures have in common."""
    return {
        "title": {"text": title, "x": 0.02, "xanchor": "left", "font": {"size": 14}},
        "autosize": True,
        "height": 420,
        "margin": {"t": 60, "b": 50, "l": 65, "r": 20},
        "hovermode": "closest",
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
    }


#: How axes look.
AXIS = {
    "showline": True,
    "mirror": True,
    "ticks": "outside",
    "linecolor": "#57606a",
    "gridcolor": "#e6e8eb",
    "exponentformat": "none",
    "separatethousands": True,
    "zeroline": False,
}


def log_switch() -> dict[str, Any]:
    """Two buttons: linear and logarithmic counts."""

    def button(label: str, kind: str) -> dict[str, Any]:
        return {"label": label, "method": "relayout", "args": [{"yaxis.type": kind, "yaxis.autorange": True}]}

    return {
        "type": "buttons",
        "direction": "right",
        "buttons": [button("linear", "linear"), button("log", "log")],
        "x": 1.0,
        "xanchor": "right",
        "y": 1.02,
        "yanchor": "bottom",
        "pad": {"t": 0, "r": 0, "b": 0, "l": 0},
        "font": {"size": 11},
        "showactive": True,
    }
