"""Headers of every answer, who may come in, and what happens when the database is away."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.monitor.service_user import ServiceUser
from neutronflow.web.monitor.settings import SETTINGS
from neutronflow.web.monitor.views.errors import AWAY, database_away
from neutronflow.web.serving import bearer_token, same_secret

log = get_logger(__name__)

CONTENT_POLICY = (
    "default-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


class ContentPolicy(MiddlewareMixin):
    """Pages load from our own origin only, and run no inline scripts or styles; the frames of plots say otherwise."""

    def process_response(self, _request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Add the policy where the view has not set one."""
        response.setdefault("Content-Security-Policy", CONTENT_POLICY)
        response.setdefault("Cache-Control", "private, no-cache")
        return response


class DatabaseBoundary(MiddlewareMixin):
    """A page that says so, and 503, while the database is away."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Views may need the database at any time."""
        return _away(request, error) if isinstance(error, AWAY) else None


def _away(request: HttpRequest, error: Exception) -> HttpResponse:
    log.warning("database_away", path=request.path, detail=str(error).strip().split("\n")[0])
    return database_away(request)


class ServiceToken(MiddlewareMixin):
    """Programs read with ``Authorization: Bearer <service token>``; the probe removes its runs with it, too."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """A right token logs in for this one request, a wrong one is refused."""
        token = bearer_token(request.headers.get("Authorization", ""))
        if not token:
            return None
        if request.method not in ("GET", "HEAD", "DELETE") or not same_secret(token, SETTINGS.secret("service-token")):
            return JsonResponse({"error": "The token is not accepted."}, status=401)
        request.user = ServiceUser()
        return None


class LoginRequired(LoginRequiredMiddleware):
    """Everything needs a login, but for views marked otherwise."""

    def process_view(self, request: HttpRequest, view_func: Any, view_args: Any, view_kwargs: Any) -> Any:
        """Who it is, is the first question to the database."""
        try:
            return super().process_view(request, view_func, view_args, view_kwargs)
        except AWAY as error:
            return _away(request, error)

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Any
    ) -> HttpResponseBase:
        """People go to the login page; programs and scripts of pages get 401."""
        if request.path.startswith(("/api/", "/events")) or request.headers.get("HX-Request"):
            return JsonResponse({"error": "Log in first."}, status=401)
        return super().handle_no_permission(request, view_func)
