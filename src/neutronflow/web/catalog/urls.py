"""Routes."""

from __future__ import annotations

from django.urls import path

from neutronflow.web.catalog import views
from neutronflow.web.health import health

urlpatterns = [
    path("healthz", health),
    path("api/datafiles", views.list_datafiles),
    path("api/datafiles/<path:path>/ingest", views.ingest_datafile),
    path("api/datafiles/<path:path>", views.retrieve_datafile),
    path("api/reductions", views.list_reductions),
    path("api/reductions/<path:path>/ingest", views.ingest_reduction),
    path("api/probe/<int:run_number>", views.remove_probe),
    path("api/instruments", views.list_instruments),
    path("api/experiments", views.list_experiments),
]
handler404 = views.not_found
handler500 = views.server_error
