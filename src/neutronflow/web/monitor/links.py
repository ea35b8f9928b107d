"""How people get in for the first time: links that log in once, and passwords set from the command line."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.utils import timezone

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.store.models import LoginLink, User
from neutronflow.web.monitor.settings import BASE_URL, MONITOR

log = get_logger(__name__)


class PasswordRefused(NeutronflowError):
    """The password of '{user}' cannot be set: {detail}"""

    code = "password-refused"


#: The account that is made for whoever starts the stack.
ADMINISTRATOR = "admin"


class NoSuchUser(NeutronflowError):
    """There is no active user '{user}'."""

    code = "no-such-user"


def make_login_link(username: str = ADMINISTRATOR) -> str:
    """The address of a fresh login link. The administrator is made when missing. Raises :class:`NoSuchUser`."""
    if username == ADMINISTRATOR and not User.objects.filter(username=username).exists():
        User.objects.create_superuser(username, password=None)
        log.info("user_created", user=username)
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise NoSuchUser(user=username)
    token = secrets.token_urlsafe(32)
    expires = timezone.now() + timedelta(minutes=MONITOR.login_link_minutes)
    LoginLink.objects.filter(expires_at__lt=timezone.now() - timedelta(days=30)).delete()
    LoginLink.objects.create(token_sha256=_digest(token), user=user, expires_at=expires)
    return f"{BASE_URL}/login/link/{token}"


def set_password(username: str, password: str) -> None:
    """Set a password; who is not there yet becomes a user without further rights. Raises :class:`PasswordRefused`."""
    user = User.objects.filter(username=username).first() or User(username=username)
    try:
        user.clean_fields(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise PasswordRefused(user=username, detail=" ".join(error.messages)) from error
    user.set_password(password)
    user.save()
    log.info("password_set", user=username)


def user_of_link(token: str) -> User | None:
    """Whom a link would log in; None for one that is unknown, used or expired."""
    found = _usable(token).select_related("user").first()
    return found.user if found else None


def redeem(token: str) -> User | None:
    """Use a link up. None where it is no good any more; of two at once, only one wins."""
    user = user_of_link(token)
    won = _usable(token).update(used_at=timezone.now())
    return user if won == 1 else None


def _usable(token: str):  # type: ignore[no-untyped-def]  # a query set, whose type the plugin knows
    now = timezone.now()
    return LoginLink.objects.filter(
        token_sha256=_digest(token), used_at__isnull=True, expires_at__gt=now, user__is_active=True
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
