"""The Django app that owns the workflow database's schema (decision 2)."""

from django.apps import AppConfig


class StoreConfig(AppConfig):
    """Models and migrations of the workflow database."""

    name = "neutronflow.store"
    label = "store"
    default_auto_field = "django.db.models.BigAutoField"
