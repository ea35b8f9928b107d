"""Django settings of the monitor, from the settings tree."""

from __future__ import annotations

from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.config import load
from neutronflow.store import django_settings as schema
from neutronflow.web.monitor.configuration import MonitorSettings
from neutronflow.web.serving import allowed_hosts, django_database

SETTINGS = load()
MONITOR = SETTINGS.section("monitor", MonitorSettings)
FACILITIES = known_facilities(SETTINGS)
BASE_URL = MONITOR.base_url.rstrip("/") or f"http://{SETTINGS.core.bind}:{SETTINGS.port('monitor')}"
LIVEDATA_URL = MONITOR.livedata_url.rstrip("/") or f"http://127.0.0.1:{SETTINGS.port('livedata')}"
CATALOG_URL = MONITOR.catalog_url.rstrip("/") or f"http://127.0.0.1:{SETTINGS.port('catalog')}"

SECRET_KEY = SETTINGS.secret("django-monitor")
DEBUG = False
ALLOWED_HOSTS = allowed_hosts(SETTINGS, MONITOR.allowed_hosts)
INSTALLED_APPS = [*schema.INSTALLED_APPS, "neutronflow.web.monitor.apps.MonitorConfig"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "neutronflow.web.monitor.middleware.ContentPolicy",
    "neutronflow.web.monitor.middleware.DatabaseBoundary",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "neutronflow.web.monitor.middleware.ServiceToken",
    "neutronflow.web.monitor.middleware.LoginRequired",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "neutronflow.web.monitor.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "neutronflow.web.monitor.context.page",
            ],
            "builtins": ["neutronflow.web.monitor.templatetags.nf"],
        },
    }
]
# Nobody waits long for a page that cannot come, and attempts to connect again are not spread over minutes.
_POOL = {"min_size": 1, "max_size": 8, "timeout": 2, "reconnect_timeout": 3}
# Checked before use: after a restart of the server every connection of the pool is dead.
DATABASES = {"default": {**django_database(SETTINGS, "monitor", pool=_POOL), "CONN_HEALTH_CHECKS": True}}
DEFAULT_AUTO_FIELD = schema.DEFAULT_AUTO_FIELD
AUTH_USER_MODEL = schema.AUTH_USER_MODEL
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/instruments/"
LOGOUT_REDIRECT_URL = "/login/"

USE_TZ = True
TIME_ZONE = SETTINGS.core.time_zone
USE_I18N = False
LOGGING_CONFIG = None
APPEND_SLASH = True

SESSION_COOKIE_AGE = int(MONITOR.session_days * 86400)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "neutronflow.web.monitor.views.errors.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = MONITOR.behind_tls
SECURE_HSTS_SECONDS = 31_536_000 if MONITOR.behind_tls else 0
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = [BASE_URL] if MONITOR.base_url else []
DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 18
