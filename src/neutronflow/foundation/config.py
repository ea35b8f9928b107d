"""One typed settings tree: a TOML file, overridden by the environment.

Each service defines its own section as a frozen msgspec struct and reads it with :meth:`Settings.section`.

* file: ``NEUTRONFLOW_CONFIG`` names it; each table is a section (``[translator]``).
* environment: ``NEUTRONFLOW_<SECTION>__<KEY>`` (two underscores), for the section ``core`` also ``NEUTRONFLOW_<KEY>``.
  Values are converted to the field's type; lists and tables are given as JSON.
* secrets are no settings: :meth:`Settings.secret` reads them from the environment or from files of mode 0600.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from neutronflow.foundation.errors import ConfigurationError, SecretMissing

PREFIX = "NEUTRONFLOW_"

S = TypeVar("S", bound=msgspec.Struct)

#: The one port table (decision 13). ``port_offset`` is added to each.
PORTS: Mapping[str, int] = {
    "monitor": 8080,
    "livedata": 8081,
    "catalog": 8082,
    "run_control": 8083,
    "stomp": 61613,
    "postgresql": 5433,
    "live_stream": 31415,
    "detector_source": 31416,
    "translator": 31417,
    "slow_control_source": 31418,
}


class Core(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all services share."""

    #: Everything that is written lies below it (mode 0700).
    data_dir: Path = Path("var")
    #: Root of the data archive; ``/`` in production. Default ``<data_dir>/archive``.
    archive_root: Path | None = None
    #: Root of the files of ``neutronflow probe``, which all services have to see. Default ``<data_dir>/probe``.
    probe_root: Path | None = None
    #: Address the services listen on.
    bind: str = "127.0.0.1"
    #: Added to every port of the port table.
    port_offset: int = 0
    #: IANA name of the zone in which pages show times.
    time_zone: str = "UTC"
    #: ``json`` or ``console``.
    log_format: str = "console"
    log_level: str = "info"


class Settings:
    """The settings tree as read from one file and one environment.

    Raises :class:`ConfigurationError` naming the file, section and key of whatever cannot be used.
    """

    def __init__(self, tree: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str], source: str) -> None:
        self._tree = tree
        self._environ = environ
        self._source = source
        self.core = self.section("core", Core)

    def section(self, name: str, kind: type[S]) -> S:
        """The section ``name`` as ``kind``, with what the environment overrides."""
        values: dict[str, Any] = dict(self._tree.get(name, {}))
        hints = get_type_hints(kind)
        for field in msgspec.structs.fields(kind):
            for variable in _variables(name, field.name):
                if variable in self._environ:
                    values[field.name] = _from_text(self._environ[variable], hints[field.name], variable)
        try:
            return msgspec.convert(values, kind, dec_hook=_decode_path)
        except (msgspec.ValidationError, ValueError) as error:
            raise ConfigurationError(where=f"[{name}] of {self._source}", detail=str(error)) from error

    def table(self, name: str) -> Mapping[str, Any]:
        """A section that is free-form (its keys are the user's own names), as read."""
        return self._tree.get(name, {})

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return self.core.data_dir.expanduser().absolute()

    @property
    def archive_root(self) -> Path:
        """The root of the data archive, absolute."""
        root = self.core.archive_root
        return root.expanduser().absolute() if root is not None else self.data_dir / "archive"

    @property
    def probe_root(self) -> Path:
        """The root of the probe's files, absolute."""
        root = self.core.probe_root
        return root.expanduser().absolute() if root is not None else self.data_dir / "probe"

    def port(self, name: str) -> int:
        """The port of a service by its name in the port table. Raises :class:`ConfigurationError` for one that cannot be."""
        port = PORTS[name] + self.core.port_offset
        if not 0 < port < 2**16:
            raise ConfigurationError(where="port_offset", detail=f"it makes {port} of the port '{name}'")
        return port

    def secret(self, name: str) -> str:
        """A secret by name: ``NEUTRONFLOW_SECRET_<NAME>``, else the file ``<data_dir>/secrets/<name>``."""
        variable = f"{PREFIX}SECRET_{name.upper().replace('-', '_')}"
        if variable in self._environ:
            return self._environ[variable]
        path = self.data_dir / "secrets" / name
        try:
            return path.read_text().strip()
        except OSError as error:
            raise SecretMissing(name=name, variable=variable, path=path) from error


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings: the file that ``NEUTRONFLOW_CONFIG`` names, if any, and the environment."""
    environ = os.environ if environ is None else environ
    file = environ.get(f"{PREFIX}CONFIG")
    if not file:
        return Settings({}, environ, "the environment")
    try:
        tree = tomllib.loads(Path(file).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(where=file, detail=str(error)) from error
    for name, table in tree.items():
        if not isinstance(table, dict):
            raise ConfigurationError(where=f"{name} in {file}", detail="it stands outside of a [section]")
    return Settings(tree, environ, file)


def _variables(section: str, key: str) -> list[str]:
    names = [f"{PREFIX}{section.upper()}__{key.upper()}"]
    if section == "core":
        names.insert(0, f"{PREFIX}{key.upper()}")
    return names


def _from_text(text: str, kind: Any, variable: str) -> Any:
    """A value from the environment: JSON for what is not a scalar, else converted by msgspec."""
    if text[:1] in "[{":
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(where=variable, detail=str(error)) from error
    try:
        return msgspec.to_builtins(msgspec.convert(text, kind, strict=False, dec_hook=_decode_path), enc_hook=str)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(where=variable, detail=str(error)) from error


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"cannot make a {kind.__name__} of {value!r}")
