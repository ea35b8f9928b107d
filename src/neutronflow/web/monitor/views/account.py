"""Logging in: by the form, which Django checks, or by a link."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from neutronflow.foundation.telemetry import get_logger
from neutronflow.web.monitor.links import redeem, user_of_link
from neutronflow.web.monitor.settings import MONITOR

log = get_logger(__name__)

_WINDOW_S = 300.0
_MAX_REMEMBERED = 10_000


class Failures:
    """Failed logins of the last minutes, by address and name; guessing is slowed down, others are not."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], list[float]] = {}

    def too_many(self, key: tuple[str, str]) -> bool:
        """Whether whoever this is has to wait."""
        recent = [moment for moment in self._times.get(key, []) if time.monotonic() - moment < _WINDOW_S]
        return len(recent) >= MONITOR.login_failures

    def note(self, key: tuple[str, str]) -> None:
        """One more."""
        if key not in self._times and len(self._times) >= _MAX_REMEMBERED:
            del self._times[next(iter(self._times))]
        self._times[key] = [*self._times.get(key, [])[-MONITOR.login_failures :], time.monotonic()]


FAILURES = Failures()


class Login(LoginView):
    """The form. Its fields and what it says are Django's."""

    template_name = "monitor/login.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Check the password, unless too many were wrong."""
        if FAILURES.too_many(self._key()):
            return render(request, "monitor/login_later.html", status=429)
        return super().post(request, *args, **kwargs)

    def form_invalid(self, form: Any) -> HttpResponse:
        """A wrong one."""
        FAILURES.note(self._key())
        log.warning("login_failed", user=self._key()[1], address=self._key()[0])
        return super().form_invalid(form)

    def _key(self) -> tuple[str, str]:
        return self.request.META.get("REMOTE_ADDR", ""), self.request.POST.get("username", "")[:150].lower()


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
