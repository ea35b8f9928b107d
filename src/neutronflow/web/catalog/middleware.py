"""Everything but the health check needs a token; errors are JSON."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse

from neutronflow.web.catalog.settings import SETTINGS
from neutronflow.web.serving import bearer_token, same_secret

_PROBE = "/api/probe/"


class TokenRequired:
    """The agents' token may do everything; the service token may read, and remove what a probe has left."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        # Raises DisallowedHost, which Django makes a 400.
        request.get_host()
        if request.path != "/healthz":
            token = bearer_token(request.headers.get("Authorization", ""))
            writer = same_secret(token, SETTINGS.secret("catalog-token"))
            reader = writer or same_secret(token, SETTINGS.secret("service-token"))
            if not reader:
                return JsonResponse({"message": "A valid token is needed."}, status=401)
            if not writer and request.method not in ("GET", "HEAD") and not request.path.startswith(_PROBE):
                return JsonResponse({"message": "This token may only read."}, status=403)
        response = self._get_response(request)
        if response.status_code == 405:
            said = {"message": f"{request.method} is not possible here."}
            return JsonResponse(said, status=405, headers={"Allow": response["Allow"]})
        return response
