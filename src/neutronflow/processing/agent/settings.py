"""The section ``[agent]`` of the settings."""

from __future__ import annotations

import msgspec

from neutronflow.foundation.config import Settings


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How agents work. Each agent's name is given on its command line."""

    #: Default: the built-in catalog on this machine.
    catalog_url: str | None = None
    #: Default: the live data server on this machine.
    livedata_url: str | None = None
    #: How long a reduction script may run, in seconds.
    time_limit_s: float = 3600.0
    #: Between asking a job to end and killing it when its time is up, in seconds.
    kill_grace_s: float = 3.0
    #: The interpreter for reduction scripts; default: the one that the agent runs on.
    python: str | None = None

    def catalog(self, settings: Settings) -> str:
        """The catalog's address."""
        return self.catalog_url or self.builtin_catalog(settings)

    def builtin_catalog(self, settings: Settings) -> str:
        """The built-in catalog's address."""
        return f"http://127.0.0.1:{settings.port('catalog')}"

    def livedata(self, settings: Settings) -> str:
        """The live data server's address."""
        return self.livedata_url or f"http://127.0.0.1:{settings.port('livedata')}"
