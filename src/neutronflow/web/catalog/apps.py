"""The Django app of the catalog."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """Data files and reductions."""

    name = "neutronflow.web.catalog"
    label = "catalog"
