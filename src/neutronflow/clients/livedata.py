"""Client of the live data server: what a job needs to publish its plot, and publication of live pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import httpx

from neutronflow.domain.facility import RunKey
from neutronflow.foundation import tokens
from neutronflow.foundation.errors import NeutronflowError

#: Scope of tokens with which one plot of one run can be published.
UPLOAD_SCOPE = "plot-upload"


_TOKEN_S: Final = 3600.0
_TIMEOUT_S: Final = 10.0


class PublishFailed(NeutronflowError):
    """The live data server at {url} did not take the picture: {detail}."""

    code = "publish-failed"


class Superseded(NeutronflowError):
    """{run} has a plot that is no live picture."""

    code = "superseded"


class LivePublisher:
    """Publishes live pictures. Use it as an async context manager."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url.rstrip("/")
        self._secret = secret
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)
        #: The token of the newest run, and until when it is used.
        self._token: tuple[RunKey | None, str, float] = (None, "", 0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def publish(self, run: RunKey, content: bytes) -> None:
        """Publish a figure (JSON) as the live picture of a run. Raises :class:`Superseded` or :class:`PublishFailed`."""
        where = f"{self._url}/plots/{run.instrument.lower()}/{run.run_number}/upload_plot_data/"
        try:
            reply = await self._http.post(
                where,
                headers={"Authorization": f"Bearer {self._token_for(run)}"},
                data={"live": "1"},
                files={"file": ("live.json", content, "application/json")},
            )
        except httpx.HTTPError as error:
            raise PublishFailed(url=self._url, detail=str(error) or type(error).__name__) from error
        if reply.status_code == httpx.codes.CONFLICT:
            raise Superseded(run=run)
        if not reply.is_success:
            raise PublishFailed(url=self._url, detail=f"HTTP {reply.status_code} {reply.text[:200]}")

    def _token_for(self, run: RunKey) -> str:
        whose, token, until = self._token
        if whose != run or time.monotonic() > until:
            claims = {"facility": run.facility, "instrument": run.instrument, "run": str(run.run_number)}
            token = tokens.mint(self._secret, UPLOAD_SCOPE, claims, _TOKEN_S)
            self._token = (run, token, time.monotonic() + _TOKEN_S / 2)
        return token


def publish_environment(
    livedata_url: str, secret: str, run: RunKey, experiment: str, lifetime_s: float
) -> Mapping[str, str]:
    """Environment variables that the plot client (``plot_publisher``) reads."""
    claims = {
        "facility": run.facility,
        "instrument": run.instrument,
        "run": str(run.run_number),
        "experiment": experiment,
    }
    return {
        "PLOT_PUBLISHER_URL_TEMPLATE": f"{livedata_url.rstrip('/')}/plots/$instrument/$run_number/upload_plot_data/",
        "PLOT_PUBLISHER_TOKEN": tokens.mint(secret, UPLOAD_SCOPE, claims, lifetime_s),
    }
