"""What the processes of services have in common: how they begin, and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any

from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import PortInUse
from neutronflow.foundation.telemetry import configure_logging


def begin(service: str) -> Settings:
    """The settings of this process, whose logs are from now on those of the service."""
    settings = load()
    configure_logging(service, level=settings.core.log_level, fmt=settings.core.log_format)
    return settings


def listen(service: str, host: str, port: int, backlog: int = 128) -> socket.socket:
    """A listening socket that does not block. Raises :class:`PortInUse`."""
    try:
        listener = socket.create_server((host, port), backlog=backlog)
    except OSError as error:
        raise PortInUse(service=service, where=f"{host}:{port}", detail=os.strerror(error.errno or 0)) from error
    listener.setblocking(False)
    return listener


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` until it ends; SIGTERM and SIGINT cancel it, which is a good end."""
    asyncio.run(_run(work))


async def _run(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
