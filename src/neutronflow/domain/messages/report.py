"""Job reports: what an agent tells of one attempt of a step, for the listener to store (decision 6)."""

from __future__ import annotations

import msgspec

from neutronflow.domain.messages.run import BadMessage

#: The log that travels with a report is cut to this size: its beginning and its end are kept.
MAX_LOG_BYTES = 256 * 1024


class OutputFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file a job has written. ``path`` is absolute."""

    path: str
    size: int
    #: ``reduced``, ``plot``, ``log`` or ``other``.
    kind: str = "other"


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a step as the agent saw it. Times are Unix seconds (UTC)."""

    facility: str
    instrument: str
    run_number: int
    step: str
    attempt: int | None
    agent: str
    started: float
    ended: float
    exit_code: int | None
    log: str = ""
    log_truncated: bool = False
    files: tuple[OutputFile, ...] = ()
    cpu_s: float | None = None
    max_rss_bytes: int | None = None


_decoder = msgspec.json.Decoder(JobReport)


def decode_job_report(body: bytes) -> JobReport:
    """Read a job report. Raises :class:`BadMessage`."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(detail=f"it is no job report ({error})") from error


def bounded_log(text: str) -> tuple[str, bool]:
    """The log cut to :data:`MAX_LOG_BYTES` of UTF-8, and whether it was cut. NULs become U+FFFD (PostgreSQL has none)."""
    text = text.replace("\0", "\ufffd")
    data = text.encode(errors="replace")
    if len(data) <= MAX_LOG_BYTES:
        return data.decode(), False
    half = MAX_LOG_BYTES // 2
    head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return f"{head}\n… {len(data) - 2 * half} bytes left out …\n{tail}", True
