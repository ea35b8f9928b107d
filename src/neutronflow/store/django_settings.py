"""Django settings that are just enough for the schema: migrations, checks and tests. The monitor's build on them."""

from __future__ import annotations

import os

SECRET_KEY = os.environ.get("NEUTRONFLOW_SECRET_DJANGO", "only-the-schema-needs-no-secret")
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "neutronflow.store"]
AUTH_USER_MODEL = "store.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES: dict[str, dict[str, object]] = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "neutronflow"}
}
