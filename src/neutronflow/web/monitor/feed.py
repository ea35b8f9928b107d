"""What open pages are told: changes of the workflow database and new plots, as server-sent events.

The feed runs while somebody listens. Ids of changes are visible in the order in which they were given, so a reader that
knows the last one has missed nothing; one that comes back with an id too old for the memory here sees so by ``hello``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import psycopg

from neutronflow.foundation.telemetry import get_logger
from neutronflow.foundation.tokens import mint
from neutronflow.store.dsn import dsn
from neutronflow.web.monitor.settings import LIVEDATA_URL, SETTINGS

log = get_logger(__name__)

_REMEMBERED = 2000
_QUEUE = 2500
_BATCH = 1000
#: A poll besides the notices, should one be lost.
_POLL_S = 15.0
_LONGEST_PAUSE_S = 5.0
#: Longer silence of the live data server, which says something every 15 s, means that it is gone.
_PLOTS_SILENCE_S = 40.0

_NEWEST = "SELECT coalesce(max(id), 0) FROM change"
_SINCE = "SELECT id, kind, facility, instrument, run_number FROM change WHERE id > %s ORDER BY id LIMIT %s"


class Feed:
    """Changes and plots, to all who listen in this process."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._memory: deque[tuple[int, str]] = deque(maxlen=_REMEMBERED)
        self._last: int | None = None
        self._connected = False

    def join(self, after: int | None) -> asyncio.Queue[str | None]:
        """A queue of events as text; None ends it. ``after``: the last change the listener knows."""
        listener: asyncio.Queue[str | None] = asyncio.Queue(_QUEUE)
        if after is not None and self._memory and after >= self._memory[0][0] - 1:
            for number, text in self._memory:
                if number > after:
                    listener.put_nowait(text)
        if self._connected:
            listener.put_nowait(self._hello())
        elif self._tasks:
            listener.put_nowait(_event("away", {}))
        self._listeners.add(listener)
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(_for_ever("changes", self._follow_changes, self._lost)),
                asyncio.create_task(_for_ever("plots", self._follow_plots, _nothing)),
            ]
        return listener

    def leave(self, listener: asyncio.Queue[str | None]) -> None:
        """Listen no more."""
        self._listeners.discard(listener)
        if not self._listeners:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._connected = False

    def _tell(self, text: str) -> None:
        for listener in list(self._listeners):
            try:
                listener.put_nowait(text)
            except asyncio.QueueFull:
                # It reads no more; when it comes back it says what it knew last.
                self._listeners.discard(listener)
                with contextlib.suppress(asyncio.QueueEmpty):
                    listener.get_nowait()
                listener.put_nowait(None)

    def _hello(self) -> str:
        return _event("hello", {"id": self._last or 0}, self._last)

    def _lost(self) -> None:
        if self._connected or self._last is None:
            self._connected = False
            self._tell(_event("away", {}))

    async def _follow_changes(self) -> None:
        async with await psycopg.AsyncConnection.connect(dsn(SETTINGS, "monitor"), autocommit=True) as connection:
            await connection.execute("LISTEN neutronflow_changes")
            if self._last is None:
                row = await (await connection.execute(_NEWEST)).fetchone()
                self._last = int(row[0]) if row else 0
            await self._catch_up(connection)
            self._connected = True
            self._tell(self._hello())
            while True:
                async for _notice in connection.notifies(timeout=_POLL_S, stop_after=1):
                    pass
                await self._catch_up(connection)

    async def _catch_up(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        while True:
            rows = await (await connection.execute(_SINCE, [self._last, _BATCH])).fetchall()
            for number, kind, facility, instrument, run_number in rows:
                data = {"facility": facility, "instrument": instrument, "run": run_number}
                text = _event(str(kind), data, int(str(number)))
                self._last = int(str(number))
                self._memory.append((self._last, text))
                self._tell(text)
            if len(rows) < _BATCH:
                return

    async def _follow_plots(self) -> None:
        token = mint(SETTINGS.secret("livedata-tokens"), "plot-read", {"instrument": "*"}, 60)
        # A compressor on the way would hold events back until it has enough of them.
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(5.0, read=_PLOTS_SILENCE_S)
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False) as client,
            client.stream("GET", f"{LIVEDATA_URL}/plots/events", headers=headers) as answer,
        ):
            answer.raise_for_status()
            # What was drawn while nobody listened is not told again: pages look for themselves.
            self._tell(_event("plots", {}))
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "data":
                    found = json.loads(value)
                    self._tell(_event("plot", {"instrument": str(found["instrument"]).upper(), "run": found["run"]}))


FEED = Feed()


async def stream(after: int | None, lifetime_s: float, beat_s: float = 10.0) -> AsyncIterator[str]:
    """The text of one listener's stream. It ends after a while, so that who logged out does not listen for ever."""
    listener = FEED.join(after)
    ends = asyncio.get_running_loop().time() + lifetime_s
    try:
        yield "retry: 2000\n\n"
        while asyncio.get_running_loop().time() < ends:
            try:
                async with asyncio.timeout(beat_s):
                    text = await listener.get()
            except TimeoutError:
                # An event, not a comment: pages see by it that the connection lives.
                text = _event("beat", {})
            if text is None:
                return
            yield text
    finally:
        FEED.leave(listener)


async def _for_ever(what: str, follow: Callable[[], Awaitable[None]], lost: Callable[[], None]) -> None:
    pause = 0.2
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await follow()
        except (psycopg.Error, httpx.HTTPError, OSError, ValueError, KeyError) as error:
            log.warning("feed_interrupted", of=what, detail=str(error).strip().split("\n")[0] or type(error).__name__)
        lost()
        pause = 0.2 if loop.time() - began > 10 else min(2 * pause, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter


def _nothing() -> None:
    """Plots that are late for a while are not worth a banner."""


def _event(kind: str, data: dict[str, object], number: int | None = None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n"
