"""One run in a process of its own: receives its stream and writes its file.

A process, as HDF5 has one lock for all files of a process and may end the process when a disk is full: one run's trouble
must not become another's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neutronflow.foundation.errors import NeutronflowError
from neutronflow.instrument.translation.outcome import (
    DiskTrouble,
    Failure,
    Identity,
    SenderLost,
    SenderSilent,
    Translated,
    TranslatorFault,
)

if TYPE_CHECKING:
    from neutronflow.instrument.translation.assembler import Assembler

#: Said when the whole stream has come.
RECEIVED: Final = "received"

_PR_SET_PDEATHSIG = 1
#: A sender that pauses for this long gets its data worked on at once, however little it is.
_PAUSE_S = 0.1
#: ... and so does one that never pauses, in such intervals.
_AT_LEAST_EVERY_S = 1.0


def work(connection: socket.socket, report: Connection, path: Path, idle_timeout_s: float) -> None:
    """Translate what comes on a connection, and end this process.

    Reports the run's :class:`Identity` as soon as it is known, ``RECEIVED``, and at last a :class:`Translated`, a
    :class:`Failure`, or None where not one byte came (somebody looked whether the port is open).
    """
    # Forked from the preloaded process, which ends with the translator: so does this one.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(BrokenPipeError):
        report.send(translate(connection, report.send, path, idle_timeout_s))
    # Without the ordinary end of a process: after a failed write, HDF5 would crash in it.
    os._exit(0)


def translate(
    connection: socket.socket, tell: Callable[[object], None], path: Path, idle_timeout_s: float
) -> Translated | Failure | None:
    """Translate what comes on a connection into ``path``."""
    # Here, so that the translator's main process, which imports this module, need not load the compiler.
    from neutronflow.instrument.translation.assembler import Assembler

    assembler = Assembler(path)
    try:
        if not _receive(connection, assembler, tell, idle_timeout_s):
            return None
        tell(RECEIVED)
        return assembler.finish()
    except NeutronflowError as error:
        failure = Failure.of(error, assembler.identity, assembler.offset)
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            assembler.salvage(failure.reason)
        return failure
    except (OSError, RuntimeError, MemoryError) as error:
        # What h5py raises where the disk is full depends on where it notices.
        return Failure.of(DiskTrouble(detail=error), assembler.identity, assembler.offset)
    except Exception as error:  # noqa: BLE001 - the one boundary: a fault of ours, reported with its trace
        fault = TranslatorFault(detail=f"{type(error).__name__}: {error}")
        return Failure.of(fault, assembler.identity, assembler.offset, traceback.format_exc())


def _receive(
    connection: socket.socket, assembler: Assembler, tell: Callable[[object], None], idle_timeout_s: float
) -> bool:
    """Take the stream, up to its end or DATA_DONE; False where not one byte came."""
    connection.settimeout(_PAUSE_S)
    last_data = worked = time.monotonic()
    told = False
    while not assembler.data_done:
        try:
            count = connection.recv_into(assembler.space())
        except TimeoutError:
            assembler.flush()
            worked = time.monotonic()
            if worked - last_data > idle_timeout_s:
                raise SenderSilent(seconds=idle_timeout_s, offset=assembler.offset) from None
        except OSError as error:
            raise SenderLost(offset=assembler.offset, detail=error.strerror) from error
        else:
            if not count:
                break
            last_data = time.monotonic()
            assembler.received(count)
            if last_data - worked > _AT_LEAST_EVERY_S:
                assembler.flush()
                worked = last_data
        if not told and assembler.identity.complete:
            tell(assembler.identity)
            told = True
    if assembler.offset and not told:
        assembler.flush()
        tell(assembler.identity)
    return assembler.offset > 0


__all__ = ["RECEIVED", "Identity", "translate", "work"]
