"""Django settings of the catalog. Its tables are in the schema ``catalog`` of the workflow database."""

from __future__ import annotations

from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.config import load
from neutronflow.web.catalog.configuration import CatalogSettings
from neutronflow.web.serving import allowed_hosts, django_database

SETTINGS = load()
CATALOG = SETTINGS.section("catalog", CatalogSettings)
FACILITIES = known_facilities(SETTINGS)

SECRET_KEY = SETTINGS.secret("django-catalog")
DEBUG = False
ALLOWED_HOSTS = allowed_hosts(SETTINGS, CATALOG.allowed_hosts)
INSTALLED_APPS = ["neutronflow.web.catalog.apps.CatalogConfig"]
MIDDLEWARE = ["neutronflow.web.catalog.middleware.TokenRequired"]
ROOT_URLCONF = "neutronflow.web.catalog.urls"
DATABASES = {"default": django_database(SETTINGS, "catalog", options="-c search_path=catalog")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
APPEND_SLASH = False
LOGGING_CONFIG = None
