"""Wakes those who listen for new plots."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Hub:
    """Tells all who listen in this process that there is a new plot; which one they read from the database."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def announce(self) -> None:
        """From any thread: there is a new plot, and it is committed."""
        for listener, loop in list(self._listeners.items()):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(listener.set)

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that is set at each new plot."""
        listener = asyncio.Event()
        self._listeners[listener] = asyncio.get_running_loop()
        try:
            yield listener
        finally:
            del self._listeners[listener]


HUB = Hub()
