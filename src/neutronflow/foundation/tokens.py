"""Short-lived tokens for one purpose, signed with a secret that maker and checker share.

A token reads ``nf1.<payload>.<signature>``: payload is base64url JSON (``scope``, ``exp``, and the claims), the signature
HMAC-SHA256 over it. Whoever holds the secret can make one; whoever holds a token can do what its scope says, until ``exp``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from neutronflow.foundation.errors import NeutronflowError

_PREFIX = "nf1"


class TokenRefused(NeutronflowError):
    """The token is not accepted: {detail}."""

    code = "token-refused"


def mint(secret: str, scope: str, claims: Mapping[str, str], lifetime_s: float) -> str:
    """A token for ``scope`` with ``claims``, valid for ``lifetime_s`` seconds from now."""
    payload = _encode(json.dumps({**claims, "scope": scope, "exp": time.time() + lifetime_s}).encode())
    return f"{_PREFIX}.{payload}.{_sign(secret, payload)}"


def verify(secret: str, scope: str, token: str) -> Mapping[str, str]:
    """The claims of a token of this scope. Raises :class:`TokenRefused`."""
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != _PREFIX:
        raise TokenRefused(detail="it is not one of ours")
    if not hmac.compare_digest(_sign(secret, parts[1]).encode(), parts[2].encode()):
        raise TokenRefused(detail="its signature is wrong")
    claims = json.loads(_decode(parts[1]))
    if claims.pop("scope") != scope:
        raise TokenRefused(detail="it is for something else")
    if claims.pop("exp") < time.time():
        raise TokenRefused(detail="it has expired")
    return dict(claims)


def _sign(secret: str, payload: str) -> str:
    return _encode(hmac.new(secret.encode(), payload.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
