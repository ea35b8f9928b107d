"""Pages for when something is not there or has gone wrong. They ask nothing of the database."""

from __future__ import annotations

import sys

import uuid_utils
from django.db.utils import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.monitor.context import theme

log = get_logger(__name__)

#: What a database that is away raises.
AWAY = (OperationalError, InterfaceError)


def _answer(request: HttpRequest, status: int, title: str, sentence: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return JsonResponse({"error": sentence}, status=status)
    values = {"title": title, "sentence": sentence, "theme": theme(request)}
    return HttpResponse(render_to_string("monitor/error.html", values), status=status)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django's
    """404, in the same words whether there is nothing or it may not be seen."""
    return _answer(request, 404, "Nothing here", "There is no such page, or it is not for you.")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403 says no more than 404."""
    return not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001 - Django's
    """400: the address or its parameters cannot be understood."""
    return _answer(request, 400, "Not understood", "The request cannot be understood.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that is too old, or comes from elsewhere."""
    log.warning("form_refused", path=request.path, reason=reason)
    sentence = "The form is too old, or cookies are blocked. Go back, load the page again and repeat it."
    return _answer(request, 403, "The form was not accepted", sentence)


def server_error(request: HttpRequest) -> HttpResponse:
    """500 with an id that the log has, too."""
    error = sys.exc_info()[1]
    if isinstance(error, AWAY):
        return database_away(request)
    number = uuid_utils.uuid7().hex
    log.error("page_failed", id=number, path=request.path, exc_info=error)
    sentence = f"Something went wrong on our side. If you report it, quote the number {number}."
    return _answer(request, 500, "Something went wrong", sentence)


def database_away(request: HttpRequest) -> HttpResponse:
    """503: try again."""
    response = _answer(
        request,
        503,
        "The database is away",
        "The workflow database cannot be reached just now. No data are lost; try again shortly.",
    )
    response["Retry-After"] = "5"
    return response
