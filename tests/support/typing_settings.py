"""Django settings with the models of all services, for the type checker only."""

from __future__ import annotations

from neutronflow.store.django_settings import AUTH_USER_MODEL, DEFAULT_AUTO_FIELD, INSTALLED_APPS, SECRET_KEY, USE_TZ

__all__ = ["AUTH_USER_MODEL", "DEFAULT_AUTO_FIELD", "SECRET_KEY", "USE_TZ"]

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "neutronflow.web.livedata.apps.LivedataConfig",
    "neutronflow.web.catalog.apps.CatalogConfig",
    "neutronflow.web.monitor.apps.MonitorConfig",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "nothing"}}
