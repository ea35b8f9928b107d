"""What every page's template knows."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils import timezone

from neutronflow import __version__

_THEMES = ("light", "dark")


def theme(request: HttpRequest) -> str:
    """``light``, ``dark``, or empty where the browser's preference decides."""
    chosen = request.COOKIES.get("nf-theme", "")
    return chosen if chosen in _THEMES else ""


def page(request: HttpRequest) -> dict[str, object]:
    """Theme, version, the moment of rendering."""
    return {"theme": theme(request), "version": __version__, "now": timezone.now()}
