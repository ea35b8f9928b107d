"""The one base of all errors that people read.

The docstring of each subclass *is* the sentence the user reads; ``{names}`` in it are filled from the keyword
arguments. ``code`` is stable: logs, dead letters and tests refer to it.
"""

from __future__ import annotations

import re
from typing import ClassVar

#: A full stop behind the end of a sentence that a detail has brought; three of them are meant.
_DOUBLED = re.compile(r"(?<!\.)([.?!])\.\Z")


class NeutronflowError(Exception):
    """Something went wrong: {detail}."""

    code: ClassVar[str] = "error"

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The sentence for people, with the fields filled in."""
        template = " ".join((type(self).__doc__ or "").split())
        try:
            # A detail may be a sentence of its own.
            return _DOUBLED.sub(r"\1", template.format(**self.fields))
        except KeyError as missing:
            return f"{template} (without {missing})"


class ConfigurationError(NeutronflowError):
    """The setting {where} is not usable: {detail}."""

    code = "configuration"


class SecretMissing(NeutronflowError):
    """The secret '{name}' is neither in the environment ({variable}) nor in the file {path}."""

    code = "secret-missing"


class PortInUse(NeutronflowError):
    """The {service} cannot listen on {where}: {detail}."""

    code = "port-in-use"
