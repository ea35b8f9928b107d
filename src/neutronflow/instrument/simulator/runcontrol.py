"""The run control of the stream service, as its HTTP interface offers it."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
import msgspec

from neutronflow.foundation.errors import NeutronflowError

T = TypeVar("T", bound=msgspec.Struct)

_TIMEOUT = httpx.Timeout(30.0, connect=3.0)


class RunControlFailed(NeutronflowError):
    """Run control at {where} does not do '{what}': {detail}."""

    code = "run-control-failed"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run is being recorded, and which; ``run_start`` in Unix seconds."""

    recording: bool
    run_number: int = 0
    run_start: float = 0.0


class _Numbered(msgspec.Struct, frozen=True):
    run_number: int


class RunControl:
    """A client. Every method raises :class:`RunControlFailed`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT, trust_env=False)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def state(self) -> State:
        """What the stream service is doing."""
        return self._decoded(await self._ask("GET", "/api/state"), State, "state")

    async def start(self, description: dict[str, Any]) -> int:
        """Begin a run; gives back its number."""
        return self._decoded(await self._ask("POST", "/api/run/start", description), _Numbered, "start").run_number

    async def stop(self) -> int:
        """End the run; gives back its number."""
        return self._decoded(await self._ask("POST", "/api/run/stop", {}), _Numbered, "stop").run_number

    async def annotate(self, marker: str, *, scan_index: int = 0, comment: str = "") -> None:
        """Write a marker into the stream."""
        await self._ask("POST", "/api/annotation", {"marker": marker, "scan_index": scan_index, "comment": comment})

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        what = f"{method} {path}"
        try:
            answer = await self._http.request(method, f"{self._url}{path}", json=body)
        except httpx.HTTPError as error:
            raise RunControlFailed(where=self._url, what=what, detail=str(error) or type(error).__name__) from error
        if not answer.is_success:
            detail = f"{answer.status_code} {answer.text[:300]}"
            raise RunControlFailed(where=self._url, what=what, detail=detail)
        return answer.content

    def _decoded(self, data: bytes, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunControlFailed(where=self._url, what=what, detail=str(error)) from error
