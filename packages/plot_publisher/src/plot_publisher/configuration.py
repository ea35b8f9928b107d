"""Where to publish, and as whom.

The first of these that is there decides: a file named by the caller, the environment (``PLOT_PUBLISHER_URL_TEMPLATE`` and
``PLOT_PUBLISHER_TOKEN``, which an agent gives to its jobs), ``/etc/autoreduce/post_processing.conf``, and
``post_processing.conf`` in the current directory.
"""

from __future__ import annotations

import json
import os
import string
from pathlib import Path
from typing import Any, NamedTuple

URL_VARIABLE = "PLOT_PUBLISHER_URL_TEMPLATE"
TOKEN_VARIABLE = "PLOT_PUBLISHER_TOKEN"  # noqa: S105 - the name of a variable, no secret
FILES = ("/etc/autoreduce/post_processing.conf", "post_processing.conf")


class PlotPublisherError(Exception):
    """The plot was not published."""


class ConfigurationInvalid(PlotPublisherError):
    """There is no usable configuration for publishing plots."""


class Configuration(NamedTuple):
    """Where to publish and as whom: with a token, or with a user name and password in the form."""

    url_template: str
    token: str = ""
    username: str = ""
    password: str = ""
    #: PEM file of a client certificate and its key.
    certificate: str = ""
    #: PEM file of the authority that has signed the server's certificate, if it is none that the system knows.
    ca_file: str = ""

    def url(self, instrument: str, run_number: int | str) -> str:
        """The address for one run's plot. Raises :class:`ConfigurationInvalid`."""
        try:
            address = string.Template(self.url_template).substitute(instrument=instrument, run_number=run_number)
        except (KeyError, ValueError) as error:
            raise ConfigurationInvalid(
                f"The address template {self.url_template!r} cannot be filled: {error}"
            ) from None
        if not address.startswith(("http://", "https://")):
            raise ConfigurationInvalid(f"The address {address!r} is neither http nor https")
        return address


def read_configuration(path: str | os.PathLike[str] | None = None) -> Configuration:
    """The configuration that applies. Raises :class:`ConfigurationInvalid` naming what is missing or wrong."""
    if path is not None:
        return _from_file(Path(path))
    template = os.environ.get(URL_VARIABLE)
    if template:
        return Configuration(template, token=os.environ.get(TOKEN_VARIABLE, ""))
    for candidate in map(Path, FILES):
        if candidate.is_file():
            return _from_file(candidate)
    raise ConfigurationInvalid(f"No configuration: neither {URL_VARIABLE} in the environment nor {' nor '.join(FILES)}")


def _from_file(path: Path) -> Configuration:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(f"The configuration {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationInvalid(f"The configuration {path} is no JSON object")
    if values.get("verify_ssl", True) is not True:
        raise ConfigurationInvalid(
            f"{path} switches the check of certificates off, which is not possible: name the authority in publisher_ca_file"
        )
    return Configuration(
        _text(values, "publish_url_template", path, required=True),
        username=_text(values, "publisher_username", path),
        password=_text(values, "publisher_password", path),
        certificate=_text(values, "publisher_certificate", path),
        ca_file=_text(values, "publisher_ca_file", path),
    )


def _text(values: dict[str, Any], key: str, path: Path, required: bool = False) -> str:
    value = values.get(key, "")
    if not isinstance(value, str) or (required and not value):
        raise ConfigurationInvalid(f"'{key}' in {path} is missing or no text")
    return value
