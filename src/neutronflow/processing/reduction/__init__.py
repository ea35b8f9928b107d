"""Reduction of event runs with scipp: the library behind the scripts that ship."""

from neutronflow.processing.reduction.events import NotAnEventFile
from neutronflow.processing.reduction.figure import figure_html
from neutronflow.processing.reduction.output import write_results
from neutronflow.processing.reduction.reduce import Reduced, RunInfo, reduce_run

__all__ = ["NotAnEventFile", "Reduced", "RunInfo", "figure_html", "reduce_run", "write_results"]
