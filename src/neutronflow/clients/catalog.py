"""Client of the catalog: ONCat's HTTP interface, which the built-in catalog speaks, too."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from neutronflow.foundation.errors import NeutronflowError

#: Waits before another attempt when the catalog cannot be reached or is out of order.
_BACK_OFF_S = (0.5, 1.0, 2.0, 3.0, 5.0)
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_TRANSIENT = frozenset({429, 500, 502, 503, 504})


class CatalogRefused(NeutronflowError):
    """The catalog does not take {path}: {detail}."""

    code = "catalog-refused"


class CatalogUnavailable(NeutronflowError):
    """The catalog cannot be reached at {url}: {detail}."""

    code = "catalog-unavailable"


class CatalogClient:
    """Sends files to the catalog. Use it as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        # Answers of proxies are no answers of the catalog, and the token is for nobody else: ignore the environment.
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._http = httpx.AsyncClient(headers=headers, timeout=_TIMEOUT, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ingest_datafile(self, path: str) -> dict[str, Any]:
        """Catalog a raw data file by its full path; returns the catalog's entry.

        Raises :class:`CatalogRefused`, or :class:`CatalogUnavailable` after some ten seconds of attempts.
        """
        return await self._ingest("datafiles", path)

    async def ingest_reduction(self, path: str) -> dict[str, Any]:
        """Catalog reduced data by the full path of the JSON file that describes them. Raises as the above."""
        return await self._ingest("reductions", path)

    async def _ingest(self, resource: str, path: str) -> dict[str, Any]:
        url = f"{self._url}/api/{resource}{quote(path, safe='/')}/ingest"
        for wait_s in _BACK_OFF_S:
            try:
                return await self._post(url, path)
            except CatalogUnavailable:
                await asyncio.sleep(wait_s)
        return await self._post(url, path)

    async def _post(self, url: str, path: str) -> dict[str, Any]:
        try:
            answer = await self._http.post(url)
        except httpx.TransportError as error:
            raise CatalogUnavailable(url=self._url, detail=str(error) or type(error).__name__) from error
        if answer.status_code in _TRANSIENT:
            raise CatalogUnavailable(url=self._url, detail=_said(answer))
        if not answer.is_success:
            raise CatalogRefused(path=path, detail=_said(answer))
        try:
            entry = answer.json()
        except ValueError:
            entry = {}
        return entry if isinstance(entry, dict) else {}


def _said(answer: httpx.Response) -> str:
    """What the catalog said, in one line: ``message`` or ``error`` of its JSON answer, and the status."""
    try:
        values = answer.json()
    except ValueError:
        values = None
    said = (
        next((values[key] for key in ("message", "error") if key in values), None) if isinstance(values, dict) else None
    )
    text = " ".join(str(said if said is not None else answer.reason_phrase).split())[:500].rstrip(".")
    return f"{text} (HTTP {answer.status_code})"
