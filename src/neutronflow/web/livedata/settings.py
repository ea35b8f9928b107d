"""Django settings of the live data server, from the settings tree."""

from __future__ import annotations

from neutronflow.foundation.config import load
from neutronflow.web.livedata.configuration import LivedataSettings
from neutronflow.web.serving import allowed_hosts, django_database

SETTINGS = load()
LIVEDATA = SETTINGS.section("livedata", LivedataSettings)

SECRET_KEY = SETTINGS.secret("django-livedata")
DEBUG = False
ALLOWED_HOSTS = allowed_hosts(SETTINGS, LIVEDATA.allowed_hosts)
INSTALLED_APPS = ["neutronflow.web.livedata.apps.LivedataConfig"]
MIDDLEWARE = ["neutronflow.web.livedata.middleware.hardened"]
ROOT_URLCONF = "neutronflow.web.livedata.urls"
DATABASES = {"default": django_database(SETTINGS, "livedata", server_side_binding=True)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
DATA_UPLOAD_MAX_NUMBER_FILES = 4
LOGGING_CONFIG = None
