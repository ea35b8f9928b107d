"""Who may read and write which plots."""

from __future__ import annotations

import hashlib
import re

from django.http import HttpRequest

from neutronflow.foundation.tokens import TokenRefused, verify
from neutronflow.web.livedata.settings import SETTINGS
from neutronflow.web.serving import Scope, bearer_token, header, same_secret

#: The user name of the form login that today's publishers use.
PUBLISHER = "publisher"
READ_SCOPE = "plot-read"
UPLOAD_SCOPE = "plot-upload"
_UPLOAD_PATH = re.compile(r"/plots/([A-Za-z0-9_-]{1,128})/([0-9]{1,19})/upload_plot_data/")


def may_upload(request: HttpRequest, instrument: str, run_number: int) -> bool:
    """By a token for exactly this run, or by the publisher's password in the form."""
    token = bearer_token(request.headers.get("Authorization", ""))
    if token:
        return _token_covers(UPLOAD_SCOPE, token, instrument, run_number)
    password = SETTINGS.secret("livedata-upload-password")
    return request.POST.get("username") == PUBLISHER and same_secret(request.POST.get("password", ""), password)


def refused_early(scope: Scope) -> tuple[int, str] | None:
    """An upload with a token that is not good for its run is refused before its body is read."""
    token = bearer_token(header(scope, "authorization"))
    path = _UPLOAD_PATH.fullmatch(scope["path"])
    if scope["method"] == "POST" and token and path and not _token_covers(UPLOAD_SCOPE, token, path[1], int(path[2])):
        return 401, "The token is not accepted for a plot of this run."
    return None


def may_read(request: HttpRequest, instrument: str, run_number: int | None, run_text: str = "") -> bool:
    """By the service token, a read token for the run (or all, ``*``), or the key that today's monitor computes."""
    authorization = request.headers.get("Authorization", "")
    token = bearer_token(authorization)
    if token:
        return same_secret(token, SETTINGS.secret("service-token")) or _token_covers(
            READ_SCOPE, token, instrument, run_number
        )
    secret = SETTINGS.secret("livedata-read-key")
    # Without a secret, anybody could compute the key.
    if run_number is None or not secret:
        return False
    key = hashlib.sha1((instrument.upper() + secret + run_text).encode(), usedforsecurity=False).hexdigest()
    return same_secret(authorization or request.GET.get("key", ""), key)


def may_remove_probe(request: HttpRequest) -> bool:
    """By the service token."""
    return same_secret(bearer_token(request.headers.get("Authorization", "")), SETTINGS.secret("service-token"))


def _token_covers(scope: str, token: str, instrument: str, run_number: int | None) -> bool:
    try:
        claims = verify(SETTINGS.secret("livedata-tokens"), scope, token)
    except TokenRefused:
        return False
    if scope == READ_SCOPE and claims.get("instrument") == "*":
        return True
    return claims.get("instrument", "").lower() == instrument.lower() and claims.get("run") == str(run_number)
