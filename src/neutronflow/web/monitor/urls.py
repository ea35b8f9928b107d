"""Routes."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LogoutView
from django.urls import path, register_converter

from neutronflow.web.health import health
from neutronflow.web.monitor.views import account, api, errors, events, pages, plots


class NameConverter:
    """Names of facilities and instruments, in any case."""

    regex = "[A-Za-z0-9_-]{1,64}"

    def to_python(self, value: str) -> str:
        """As it stands."""
        return value

    to_url = to_python


class NumberConverter:
    """Run numbers and ids: what PostgreSQL's bigint holds for sure."""

    regex = "[0-9]{1,18}"

    def to_python(self, value: str) -> int:
        """As a number."""
        return int(value)

    def to_url(self, value: int) -> str:
        """As text."""
        return str(value)


register_converter(NameConverter, "name")
register_converter(NumberConverter, "number")

_INSTRUMENT = "<name:facility>/<name:name>"
_RUN = f"instruments/{_INSTRUMENT}/runs/<number:number>"

urlpatterns = [
    path("", pages.home),
    path("healthz", login_not_required(health)),
    path("events", events.events),
    path("login/", account.Login.as_view()),
    path("login/link/<str:token>", account.login_link),
    path("logout/", LogoutView.as_view()),
    path("instruments/", pages.instruments),
    path(f"instruments/{_INSTRUMENT}/", pages.runs),
    path(f"instruments/{_INSTRUMENT}/now/", pages.now),
    path(f"{_RUN}/", pages.run),
    path(f"{_RUN}/logs/<number:report>/", pages.log),
    path(f"{_RUN}/plot/", plots.plot_frame),
    path(f"{_RUN}/plot/card/", plots.plot_card),
    path(f"{_RUN}/plot/figure/", plots.plot_figure),
    path(f"{_RUN}/catalog/", plots.catalog_facts),
    path("services/", pages.services),
    path(f"api/instruments/{_INSTRUMENT}", api.instrument),
    path(f"api/runs/{_INSTRUMENT}/", api.runs),
    path(f"api/runs/{_INSTRUMENT}/<number:number>", api.run),
    path(f"api/runs/{_INSTRUMENT}/<number:number>/files/<str:file_name>", api.file),
]
handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.server_error
