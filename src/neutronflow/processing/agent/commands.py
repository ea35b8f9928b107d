"""From a message to work: what a command must hold before anything is done with it."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from neutronflow.domain.facility import BadIdentifier, Facilities, RunKey
from neutronflow.domain.messages import destinations as names
from neutronflow.domain.messages.run import RunMessage
from neutronflow.domain.workflow.states import StepName
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.processing.steps.outcome import Work

#: Which step the commands of a queue ask for.
STEP_OF = {
    names.CATALOG_RAW_READY: StepName.CATALOG_RAW,
    names.REDUCTION_READY: StepName.REDUCE,
    names.REDUCTION_CATALOG_READY: StepName.CATALOG_REDUCED,
}


class CommandRefused(NeutronflowError):
    """{detail}"""

    code = "command-refused"


def run_key(said: RunMessage, facilities: Facilities) -> RunKey:
    """Which run a message is about. Raises :class:`UnknownFacility` or :class:`BadIdentifier`."""
    return facilities.run_key(said.facility, said.instrument, said.run_number)


def work_of(said: RunMessage, run: RunKey, step: StepName, facilities: Facilities) -> Work:
    """The work that a command asks for. Looks at the data file, so it may block.

    Raises :class:`CommandRefused` with the sentence that goes into the answer.
    """
    if not said.ipts.strip():
        raise CommandRefused(detail="IPTS is missing")
    try:
        experiment = facilities.experiment(run.facility, said.ipts)
    except BadIdentifier as error:
        raise CommandRefused(detail=str(error)) from error
    _check_data_file(said.data_file, facilities)
    return Work(step=step, run=run, experiment=experiment, data_file=said.data_file)


def _check_data_file(data_file: str, facilities: Facilities) -> None:
    if not data_file:
        raise CommandRefused(detail="data_file is missing: None")
    path = Path(data_file)
    try:
        if not path.is_absolute() or ".." in path.parts or not facilities.contains(path):
            raise CommandRefused(detail=f"Data file is not in the archive: {data_file}")
        # A pipe would block open(); and only open() knows about access control lists.
        if not stat.S_ISREG(path.stat().st_mode):
            raise CommandRefused(detail=f"Data file open error for file {data_file}: it is no regular file")
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CommandRefused(detail=f"Data file not found: {data_file}") from error
    except PermissionError as error:
        raise CommandRefused(detail=f"Data file permission denied: {data_file}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        reason = errno.errorcode.get(getattr(error, "errno", None) or 0, str(error))
        raise CommandRefused(detail=f"Data file open error for file {data_file}: {reason}") from error
