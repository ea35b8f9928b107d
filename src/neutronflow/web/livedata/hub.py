"""Tells listening clients of new plots."""

from __future__ import annotations

import asyncio
import contextlib
import json

from neutronflow.web.livedata.models import Plot

_QUEUE = 1000


class Hub:
    """New plots, to all who listen in this process."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[str], asyncio.AbstractEventLoop] = {}

    def announce(self, plot: Plot) -> None:
        """From any thread: there is a new plot."""
        for listener, loop in list(self._listeners.items()):
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_put, listener, event(plot))

    def listen(self) -> asyncio.Queue[str]:
        """A queue that gets each new plot as the text of a server-sent event."""
        listener: asyncio.Queue[str] = asyncio.Queue(_QUEUE)
        self._listeners[listener] = asyncio.get_running_loop()
        return listener

    def leave(self, listener: asyncio.Queue[str]) -> None:
        """Listen no more."""
        self._listeners.pop(listener, None)


HUB = Hub()


def event(plot: Plot) -> str:
    """A plot as the text of a server-sent event."""
    data = {"id": plot.pk, "instrument": plot.instrument, "run": plot.run_number}
    return f"id: {plot.pk}\nevent: plot\ndata: {json.dumps(data)}\n\n"


def _put(listener: asyncio.Queue[str], text: str) -> None:
    # Who does not read any more misses events, and asks for them with Last-Event-ID when it comes back.
    with contextlib.suppress(asyncio.QueueFull):
        listener.put_nowait(text)
