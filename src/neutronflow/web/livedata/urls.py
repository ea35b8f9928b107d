"""Routes; the trailing slashes are part of what publishers know."""

from __future__ import annotations

from django.urls import path, re_path

from neutronflow.web.health import health
from neutronflow.web.livedata import views

_RUN = r"^plots/(?P<instrument>[A-Za-z0-9_-]{1,128})/(?P<run>[0-9]{1,19})"

urlpatterns = [
    path("healthz", health),
    path("plots/events", views.events),
    re_path(r"^plots/probe/(?P<run>[0-9]{1,18})/$", views.remove_probe),
    re_path(rf"{_RUN}/upload_plot_data/$", views.upload),
    re_path(rf"{_RUN}/update/(?P<kind>html|json)/$", views.plot),
    re_path(rf"{_RUN}/history/$", views.history),
]
