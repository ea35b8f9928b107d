"""Whom the service token logs in."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser


class ServiceUser(AnonymousUser):
    """A program of the stack that holds the service token; it may read, and remove what the probe has made."""

    username = "service"  # type: ignore[assignment]

    @property
    def is_authenticated(self) -> bool:  # type: ignore[override]
        """It has shown the token."""
        return True

    @property
    def is_anonymous(self) -> bool:  # type: ignore[override]
        """It has a name."""
        return False
