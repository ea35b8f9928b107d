"""Publish plots from reduction scripts to a live data server.

Standard library only, Python 3.8 and newer: it runs inside whatever environment a reduction script needs.

    from plot_publisher import plot1d
    plot1d(1001, [[x, y, dy]], x_title="TOF (µs)", y_title="counts", instrument="HYS")
"""

from plot_publisher.configuration import ConfigurationInvalid, PlotPublisherError
from plot_publisher.figures import PLOTLYJS_VERSION, inject_plotlyjs_version, plotly_div
from plot_publisher.plots import plot1d, plot_heatmap
from plot_publisher.publishing import PublishFailed, PublishRefused, Response, publish_plot

__version__ = "0.1.0"

__all__ = [
    "PLOTLYJS_VERSION",
    "ConfigurationInvalid",
    "PlotPublisherError",
    "PublishFailed",
    "PublishRefused",
    "Response",
    "__version__",
    "inject_plotlyjs_version",
    "plot1d",
    "plot_heatmap",
    "plotly_div",
    "publish_plot",
]
