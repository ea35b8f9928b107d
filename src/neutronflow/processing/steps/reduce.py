"""Reduce a run with its instrument's script.

The script is run as ``<python> reduce_<INST>.py <NeXus file> <output folder>/`` in the output folder. It has succeeded if
its exit code is 0; warnings on standard error are just that. Both output streams go to
``reduction_log/<NeXus file's name>.log`` in the output folder, standard error also to ``.err``, which is kept after a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from neutronflow.domain.facility import Facilities
from neutronflow.domain.messages.report import MAX_LOG_BYTES, OutputFile
from neutronflow.processing.executors.local import JobNotStarted, JobResult, JobSpec, run_job
from neutronflow.processing.steps.diagnosis import why_failed
from neutronflow.processing.steps.outcome import Ending, StepFailed, StepResult, Work
from neutronflow.processing.steps.outputs import files_of_run, written


class Reduction(msgspec.Struct, frozen=True, kw_only=True):
    """How this agent reduces. ``environment`` gives a job's environment, from its work and its scratch folder."""

    facilities: Facilities
    python: str
    time_limit_s: float
    kill_grace_s: float
    scratch: Path
    environment: Callable[[Work, Path], Mapping[str, str]]


def script_of(facilities: Facilities, work: Work) -> Path:
    """Where the reduction script of the run's instrument must lie."""
    return facilities.script_dir(work.run.facility, work.run.instrument) / f"reduce_{work.run.instrument}.py"


async def reduce(reduction: Reduction, work: Work) -> StepResult:
    """Run the script of the run's instrument, or say that there is none (:attr:`Ending.DISABLED`).

    Raises :class:`StepFailed` when the script could not be run at all.
    """
    script = script_of(reduction.facilities, work)
    if not script.is_file():
        return StepResult(ending=Ending.DISABLED, log=f"There is no script {script}: autoreduction is disabled.\n")
    outdir = reduction.facilities.reduced_dir(work.run, work.experiment)
    try:
        (outdir / "reduction_log").mkdir(parents=True, exist_ok=True)
        reduction.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = Path(tempfile.mkdtemp(prefix=f"{work.run.run_number}-", dir=reduction.scratch))
    except OSError as error:
        raise StepFailed(detail=f"The output folder cannot be used: {error}") from error
    try:
        return await _run(reduction, work, script, scratch)
    except JobNotStarted as error:
        raise StepFailed(detail=str(error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _run(reduction: Reduction, work: Work, script: Path, scratch: Path) -> StepResult:
    outdir = reduction.facilities.reduced_dir(work.run, work.experiment)
    log = outdir / "reduction_log" / f"{Path(work.data_file).name}.log"
    spec = JobSpec(
        argv=[reduction.python, str(script), work.data_file, f"{outdir}/"],
        cwd=outdir,
        log=log,
        err=log.with_suffix(".err"),
        environment=reduction.environment(work, scratch),
        time_limit_s=reduction.time_limit_s,
        grace_s=reduction.kill_grace_s,
    )
    before = await asyncio.to_thread(files_of_run, outdir, work.run.run_number)
    result = await run_job(spec)
    after = await asyncio.to_thread(files_of_run, outdir, work.run.run_number)
    error = why_failed(result)
    if error is None:
        with contextlib.suppress(OSError):
            spec.err.unlink()  # its lines stand in the log, too; programs take the file as the sign of a failure
    text = await asyncio.to_thread(_read_ends, log)
    after = {path: state for path, state in after.items() if path != str(spec.err) or error is not None}
    return _step_result(result, error, text, written(before, after))


def _step_result(result: JobResult, error: str | None, log: str, files: tuple[OutputFile, ...]) -> StepResult:
    return StepResult(
        ending=Ending.COMPLETE if error is None else Ending.ERROR,
        error=error or "",
        log=log,
        files=files,
        exit_code=result.exit_code if result.exit_code is not None else -(result.signal or 0),
        cpu_s=result.cpu_s,
        max_rss_bytes=result.max_rss_bytes,
    )


def _read_ends(path: Path) -> str:
    """A log as text; of a long one, its beginning and its end, each as much as a report can carry."""
    try:
        # Scripts may have put a link or a pipe in its place.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            data = file.read(MAX_LOG_BYTES)
            file.seek(max(len(data), size - MAX_LOG_BYTES))
            return (data + file.read(MAX_LOG_BYTES)).decode(errors="replace")
    except OSError as error:
        return f"The log cannot be read: {error}\n"
