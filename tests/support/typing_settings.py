"""Django settings with the models of all services, so that mypy knows every one of them; nothing runs with these."""

from __future__ import annotations

from neutronflow.store.django_settings import *  # noqa: F403 - all of it, as Django's settings are made
from neutronflow.store.django_settings import INSTALLED_APPS as _SCHEMA_APPS

INSTALLED_APPS = [*_SCHEMA_APPS, "neutronflow.web.catalog", "neutronflow.web.livedata"]
