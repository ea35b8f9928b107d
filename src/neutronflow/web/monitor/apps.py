"""The Django app of the monitor: templates and template tags; its tables are the store's."""

from django.apps import AppConfig


class MonitorConfig(AppConfig):
    """Pages, events and the API."""

    name = "neutronflow.web.monitor"
    label = "monitor"
