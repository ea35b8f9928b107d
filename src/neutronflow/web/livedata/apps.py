"""The Django app of the live data server."""

from django.apps import AppConfig


class LivedataConfig(AppConfig):
    """Plots and their versions."""

    name = "neutronflow.web.livedata"
    label = "livedata"
