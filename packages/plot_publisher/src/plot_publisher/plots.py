"""The two plots that most scripts want, in one call each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plot_publisher.figures import plotly_div
from plot_publisher.publishing import Response, publish_plot


def plot1d(  # noqa: PLR0917 - the order that scripts in use rely on
    run_number: int | str,
    data_list: Sequence[Any],
    data_names: Sequence[str] | None = None,
    x_title: str = "",
    y_title: str = "",
    x_log: bool = False,
    y_log: bool = False,
    instrument: str = "",
    show_dx: bool = True,
    title: str = "",
    publish: bool = True,
) -> str | Response:
    """Plot one or more curves with their errors.

    ``data_list`` is one curve ``[x, y]``, ``[x, y, dy]`` or ``[x, y, dy, dx]``, or a list of such curves; x, y, dy, dx are
    sequences of equal length. Returns the server's answer, or the HTML if ``publish`` is false.

    Raises :class:`ValueError` for curves of another shape and :class:`plot_publisher.PlotPublisherError`.
    """
    curves = [data_list] if _is_curve(data_list) else list(data_list)
    names = list(data_names) if data_names is not None and len(data_names) == len(curves) else None
    traces = [_scatter(curve, names[i] if names else None, show_dx) for i, curve in enumerate(curves)]
    layout = _layout(title, _axis(x_title, x_log), _axis(y_title, y_log), height=400, legend=names is not None)
    return _finish(plotly_div(traces, layout, width="600px", height="400px"), instrument, run_number, publish)


def plot_heatmap(  # noqa: PLR0917 - the order that scripts in use rely on
    run_number: int | str,
    x: Sequence[Any],
    y: Sequence[Any],
    z: Sequence[Any],
    x_title: str = "",
    y_title: str = "",
    surface: bool = False,
    x_log: bool = False,
    y_log: bool = False,
    instrument: str = "",
    title: str = "",
    publish: bool = True,
    colorscale: str = "Jet",
) -> str | Response:
    """Plot ``z`` (rows along y, columns along x) as a heat map, or as a surface.

    Returns the server's answer, or the HTML if ``publish`` is false. Raises :class:`plot_publisher.PlotPublisherError`.
    """
    trace = {"type": "surface" if surface else "heatmap", "x": x, "y": y, "z": z, "colorscale": colorscale}
    layout = _layout(title, _axis(x_title, x_log), _axis(y_title, y_log), height=500, legend=False)
    return _finish(plotly_div([trace], layout, width="600px", height="500px"), instrument, run_number, publish)


def _finish(div: str, instrument: str, run_number: int | str, publish: bool) -> str | Response:
    return publish_plot(instrument, run_number, files={"file": div}) if publish else div


def _is_curve(data: Sequence[Any]) -> bool:
    """Whether this is one curve (its elements are columns of numbers) and no list of curves."""
    if len(data) == 0 or len(data[0]) == 0:
        raise ValueError("There is nothing to plot: give [x, y], [x, y, dy], [x, y, dy, dx], or a list of such")
    return not hasattr(data[0][0], "__len__")


def _scatter(curve: Sequence[Any], name: str | None, show_dx: bool) -> dict[str, Any]:
    if not 2 <= len(curve) <= 4 or len({len(column) for column in curve}) != 1:
        raise ValueError("A curve is [x, y], [x, y, dy] or [x, y, dy, dx], all of one length")
    trace: dict[str, Any] = {"type": "scatter", "x": curve[0], "y": curve[1]}
    if name is not None:
        trace["name"] = name
    if len(curve) > 2:
        trace["error_y"] = {"type": "data", "array": curve[2], "visible": True}
    if len(curve) > 3:
        trace["error_x"] = {"type": "data", "array": curve[3], "visible": show_dx}
    return trace


def _axis(title: str, log: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": title},
        "zeroline": False,
        "exponentformat": "power",
        "showexponent": "all",
        "showgrid": True,
        "showline": True,
        "mirror": "all",
        "ticks": "inside",
    }
    if log:
        axis["type"] = "log"
    return axis


def _layout(title: str, xaxis: dict[str, Any], yaxis: dict[str, Any], height: int, legend: bool) -> dict[str, Any]:
    return {
        "title": {"text": title},
        "width": 600,
        "height": height,
        "autosize": True,
        "margin": {"t": 40, "b": 40, "l": 80, "r": 40},
        "hovermode": "closest",
        "bargap": 0,
        "showlegend": legend,
        "xaxis": xaxis,
        "yaxis": yaxis,
    }
