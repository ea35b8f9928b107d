"""What can be wrong with what the stream service is given."""

from __future__ import annotations

from neutronflow.foundation.errors import NeutronflowError


class BadPixelMap(NeutronflowError):
    """The pixel map {path} cannot be used: line {line}: {detail}."""

    code = "bad-pixel-map"


class BeamlineFileMissing(NeutronflowError):
    """The stream service needs {what} at {path} ({detail})."""

    code = "beamline-file-missing"


class RunRefused(NeutronflowError):
    """{detail}."""

    code = "run-refused"
