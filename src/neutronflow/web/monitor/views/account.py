"""Logging in by link. The form and the way out are Django's."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.monitor.links import redeem, user_of_link

log = get_logger(__name__)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET asks (what only looks at links must not use them up), POST logs in."""
    if request.method == "POST":
        user = redeem(token)
        if user is not None:
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            log.info("logged_in_by_link", user=user.get_username())
            return HttpResponseRedirect("/instruments/")
    else:
        user = user_of_link(token)
    return render(request, "monitor/login_link.html", {"person": user}, status=200 if user else 410)
