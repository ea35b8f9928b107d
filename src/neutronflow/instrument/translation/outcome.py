"""What a translation comes to: a file, or a reason why not. Plain data, as it travels between processes."""

from __future__ import annotations

from dataclasses import dataclass

from neutronflow.domain.adara.packets import BeamlineInfo
from neutronflow.foundation.errors import NeutronflowError


class SenderSilent(NeutronflowError):
    """The sender was silent for {seconds:g} s, {offset} bytes into the stream."""

    code = "sender-silent"


class SenderLost(NeutronflowError):
    """The connection was lost {offset} bytes into the stream: {detail}."""

    code = "sender-lost"


class DiskTrouble(NeutronflowError):
    """The file cannot be written: {detail}."""

    code = "disk-trouble"


class WorkerLost(NeutronflowError):
    """The process that translated the run has ended unexpectedly (exit code {exit_code})."""

    code = "worker-lost"


class TranslatorFault(NeutronflowError):
    """The translator has a fault that this stream brings to light ({detail}); its log says more."""

    code = "translator-fault"


#: What may be gone when the same stream is sent again.
PASSING = (SenderSilent, SenderLost, DiskTrouble, WorkerLost)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose run a stream is, as far as it has said so."""

    facility: str = "?"
    long_name: str = "?"
    short_name: str = "?"
    experiment: str = "?"
    run_number: int = 0

    def __str__(self) -> str:
        return f"{self.facility} {self.long_name} ({self.short_name}) Run {self.run_number or '?'} {self.experiment}"

    @property
    def complete(self) -> bool:
        """Whether all of it is known."""
        return self.run_number > 0 and "?" not in (self.facility, self.short_name)


@dataclass(frozen=True, slots=True)
class Translated:
    """What a translation came to."""

    run_number: int
    facility: str
    experiment: str
    beamline: BeamlineInfo
    pulses: int
    events: int
    stream_bytes: int
    #: What in the stream could not be used, in words, with how often.
    problems: dict[str, int]
    #: The stream says that it comes from a simulated beamline.
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no file. ``passing``: the same stream may do when it is sent again."""

    identity: Identity
    code: str
    sentence: str
    passing: bool
    stream_bytes: int
    #: Where a fault of ours showed itself; else empty.
    trace: str = ""

    @classmethod
    def of(cls, error: NeutronflowError, identity: Identity, stream_bytes: int, trace: str = "") -> Failure:
        """The failure that an error means."""
        return cls(identity, error.code, str(error), isinstance(error, PASSING), stream_bytes, trace)

    @property
    def reason(self) -> str:
        """The sentence for people, beginning with whose run it is."""
        return f"{self.identity} - {self.sentence}"
