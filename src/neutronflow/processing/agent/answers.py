"""What an agent says: the contract's answers, job reports and dead letters. Pure: from values to messages."""

from __future__ import annotations

import msgspec

from neutronflow.domain.facility import RunKey
from neutronflow.domain.messages import destinations as names
from neutronflow.domain.messages.report import JobReport, bounded_log
from neutronflow.domain.messages.run import RunMessage, encode_run_message
from neutronflow.domain.workflow.states import StepName
from neutronflow.foundation.broker.message import Message, Outgoing, queue
from neutronflow.processing.steps.outcome import Ending, StepResult

#: Today's manager cuts texts to 200 characters; so we cut them where we can mark it.
MAX_ERROR = 198

_STARTED = {
    StepName.CATALOG_RAW: names.CATALOG_RAW_STARTED,
    StepName.REDUCE: names.REDUCTION_STARTED,
    StepName.CATALOG_REDUCED: names.REDUCTION_CATALOG_STARTED,
}
_ENDED = {
    (StepName.CATALOG_RAW, Ending.COMPLETE): names.CATALOG_RAW_COMPLETE,
    (StepName.CATALOG_RAW, Ending.ERROR): names.CATALOG_RAW_ERROR,
    (StepName.REDUCE, Ending.COMPLETE): names.REDUCTION_COMPLETE,
    (StepName.REDUCE, Ending.ERROR): names.REDUCTION_ERROR,
    (StepName.REDUCE, Ending.DISABLED): names.REDUCTION_DISABLED,
    (StepName.CATALOG_REDUCED, Ending.COMPLETE): names.REDUCTION_CATALOG_COMPLETE,
    # Today's managers know a failed cataloging of reduced data under this name only.
    (StepName.CATALOG_REDUCED, Ending.ERROR): names.CATALOG_ERROR,
}
_PREFIX = {StepName.CATALOG_RAW: "ONCAT: ", StepName.REDUCE: "REDUCTION: ", StepName.CATALOG_REDUCED: "ONCAT: "}


def started(said: RunMessage, step: StepName, agent: str) -> Outgoing:
    """The answer that a step has begun here."""
    return _answer(_STARTED[step], said, step, agent)


def ended(said: RunMessage, step: StepName, agent: str, result: StepResult) -> Outgoing:
    """The answer that a step has ended, and how."""
    error = _PREFIX[step] + (result.error or "no reason was given") if result.ending is Ending.ERROR else ""
    return _answer(_ENDED[step, result.ending], said, step, agent, error)


def refused(said: RunMessage, step: StepName, agent: str, reason: str) -> Outgoing:
    """The answer to a command that cannot be carried out."""
    return _answer(names.POSTPROCESS_ERROR, said, step, agent, reason)


def report(
    said: RunMessage, run: RunKey, step: StepName, agent: str, *, result: StepResult, started: float, ended: float
) -> Outgoing:
    """The job report of one attempt; ``started`` and ``ended`` are Unix seconds."""
    log, truncated = bounded_log(result.log)
    values = JobReport(
        facility=run.facility,
        instrument=run.instrument,
        run_number=run.run_number,
        step=step,
        attempt=said.attempt,
        agent=agent,
        started=started,
        ended=ended,
        exit_code=result.exit_code,
        log=log,
        log_truncated=truncated,
        files=result.files,
        cpu_s=result.cpu_s,
        max_rss_bytes=result.max_rss_bytes,
    )
    return Outgoing(destination=queue(names.JOB_REPORT), body=msgspec.json.encode(values), headers=_JSON)


def dead_letter(message: Message, agent: str, reason: str) -> Outgoing:
    """A message that was not understood, whole, with the reason."""
    headers = {
        "nf-reason": " ".join(reason.split())[:500],
        "nf-source": agent,
        "nf-destination": str(message.destination),
    }
    return Outgoing(destination=queue(names.DEADLETTER), body=message.body, headers=headers)


_JSON = {"content-type": "application/json"}


def _answer(destination: str, said: RunMessage, step: StepName, agent: str, error: str = "") -> Outgoing:
    error = error.encode(errors="replace").decode()  # a file may have any bytes for a name
    if len(error) > MAX_ERROR:
        error = error[: MAX_ERROR - 1] + "…"
    extra = {**said.extra, "nf_step": str(step)}
    body = encode_run_message(said.replace(information=agent, error=error, extra=extra))
    return Outgoing(destination=queue(destination), body=body, headers=_JSON)
