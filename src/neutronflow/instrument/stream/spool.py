"""The spool: everything that goes out stands on the disk first, and all who read the stream read it there.

A container is a folder ``YYYYMMDD/YYYYMMDD-HHMMSS.nnnnnnnnn[-run-N]`` (UTC) with the files of one run, or of the time between
two runs: ``m<mode>-f<file>[-p<pause>][-run-N].adara``. Modes count the pauses and resumptions. Each file begins with SYNC,
RUN STATUS and the prologue, so the files of a run in their order are what the translator takes. Files named
``translation_completed`` and ``manual_processing_needed`` in a container say what became of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from neutronflow.domain.adara.clock import now
from neutronflow.domain.adara.packets import RunStatus, RunStatusCode, Sync, encode
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

TRANSLATED: Final = "translation_completed"
MANUAL: Final = "manual_processing_needed"
#: What cannot be written (the disk is full) is tried again after this; sources are not read meanwhile.
_AGAIN_S: Final = 1.0
_CONTAINER = re.compile(r"\d{8}-\d{6}\.\d{9}(?:-run-(\d{1,10}))?\Z")
_FILE = re.compile(r"m(\d{8})-f(\d{8})(?:-p(\d{8}))?(?:-run-\d{1,10})?\.adara\Z")
#: RUN STATUS has 12 bits for each of mode and file.
_MOST = 0xFFF


@dataclass(slots=True)
class SpoolFile:
    """One file of a container. ``size``: how many bytes stand in it; ``closed``: no more will come."""

    path: Path
    mode: int
    index: int
    paused: bool = False
    size: int = 0
    closed: bool = False


@dataclass(slots=True)
class Container:
    """The files of one run (``run`` > 0), or of a time without one. ``start``: of the run, EPICS seconds."""

    path: Path
    run: int
    start: int
    files: list[SpoolFile] = field(default_factory=list)
    closed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def has(self, mark: str) -> bool:
        """Whether it is marked so."""
        return (self.path / mark).exists()

    def mark(self, mark: str, text: str) -> None:
        """Mark it, durably."""
        with (self.path / mark).open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes ``[start:end]`` of a file of the spool, to be read from ``handle`` before the next piece is asked for."""

    handle: int
    start: int
    end: int


class Spool:
    """Writes the stream. One writer; readers follow it by :meth:`follow` and :meth:`follow_from`."""

    def __init__(self, folder: Path, *, file_bytes: int, sync_bytes: int, prologue: Callable[[], bytes]) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._sync_bytes = sync_bytes
        #: The prologue of a continued file.
        self._prologue = prologue
        self.containers: list[Container] = []
        self._handle = -1
        self._waiting: list[bytes] = []
        #: Two writers at a time would mix what they write where the disk is slow to take it.
        self._lock = asyncio.Lock()
        self._since_sync = 0
        #: Bytes were written since the last :meth:`sync`.
        self._dirty = False
        self._followers: set[asyncio.Event] = set()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def current(self) -> Container:
        """The container that is being written."""
        return self.containers[-1]

    @property
    def file(self) -> SpoolFile:
        """The file that is being written."""
        return self.current.files[-1]

    def scan(self) -> None:
        """Find what stands on the disk."""
        found = sorted(path for day in self._folder.iterdir() if day.is_dir() for path in day.iterdir())
        for path in found:
            named = _CONTAINER.match(path.name)
            if named is None or not path.is_dir():
                continue
            container = Container(path, int(named[1] or 0), 0, closed=True)
            files = [(match, file) for file in path.iterdir() if (match := _FILE.match(file.name))]
            for match, file in sorted(files, key=lambda pair: (int(pair[0][1]), int(pair[0][2]))):
                paused = match[3] is not None
                container.files.append(
                    SpoolFile(file, int(match[1]), int(match[2]), paused, file.stat().st_size, closed=True)
                )
            if container.files:
                self.containers.append(container)

    def begin(self, run: int, start: int, prologue: bytes) -> None:
        """Open a container for a run, or for the time without one (run 0). What went before has to be flushed.

        Raises OSError, after which what went before goes on.
        """
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
        name = f"{moment}.{nanoseconds:09d}" + (f"-run-{run}" if run else "")
        path = self._folder / moment[:8] / name
        path.mkdir(parents=True, exist_ok=True)
        _sync_folder(path.parent)
        before = self.containers[-1] if self.containers else None
        container = Container(path, run, start)
        self._open(
            container,
            1,
            1,
            paused=False,
            code=RunStatusCode.NEW_RUN if run else RunStatusCode.NO_RUN,
            prologue=prologue,
        )
        self.containers.append(container)
        if before is not None:
            before.closed = before.files[-1].closed = True
            self.tell()

    def resume(self, container: Container) -> None:
        """Go on with a run whose container is the last one, in a new file; its last file ends with a whole packet."""
        container.closed = False
        last = container.files[-1]
        self._open(
            container,
            last.mode,
            last.index + 1,
            paused=last.paused,
            code=RunStatusCode.RUN_BOF,
            prologue=self._prologue(),
        )

    async def change_mode(self, *, paused: bool) -> None:
        """Pause or resume: go on in a file of the next mode."""
        async with self._lock:
            await self._next_file(self.file.mode + 1, 1, paused=paused)

    def append(self, packets: bytes) -> None:
        """Have these whole packets written next."""
        self._waiting.append(packets)
        self._since_sync += len(packets)
        if self._since_sync >= self._sync_bytes:
            self._sync_packet()

    async def flush(self) -> None:
        """Write what waits; it is patient where the disk is not."""
        async with self._lock:
            await self._write()
            if self.file.size >= self._file_bytes and self.file.index < _MOST:
                await self._next_file(self.file.mode, self.file.index + 1, paused=self.file.paused)
        self.tell()

    async def _write(self) -> None:
        while self._waiting:
            data = memoryview(b"".join(self._waiting))
            self._waiting.clear()
            while data:
                try:
                    count = os.write(self._handle, data)
                except OSError as error:
                    log.error("spool_not_written", file=self.file.path.name, detail=str(error))
                    await asyncio.sleep(_AGAIN_S)
                    continue
                data = data[count:]
                self.file.size += count
            self._dirty = True

    async def _next_file(self, mode: int, index: int, *, paused: bool) -> None:
        """End the file, which a run's last packet of a file says, and go on in another one of the container."""
        if self.current.run:
            self._waiting.append(self.status(RunStatusCode.RUN_EOF))
        await self._write()
        last, code = self.file, RunStatusCode.RUN_BOF if self.current.run else RunStatusCode.NO_RUN
        while True:
            try:
                self._open(self.current, mode, index, paused=paused, code=code, prologue=self._prologue())
                break
            except OSError as error:
                log.error("spool_not_written", file=last.path.name, detail=str(error))
                await asyncio.sleep(_AGAIN_S)
        last.closed = True
        await self._write()

    def status(self, code: RunStatusCode) -> bytes:
        """A RUN STATUS packet about the file that is being written."""
        return _status(self.current, self.file, code)

    async def sync(self) -> None:
        """Have what was written on the disk."""
        if self._dirty:
            self._dirty = False
            handle = os.dup(self._handle)
            try:
                await asyncio.to_thread(os.fdatasync, handle)
            finally:
                os.close(handle)

    def tell(self) -> None:
        """Wake those who follow."""
        for event in self._followers:
            event.set()

    def follow(self, container: Container, *, paused: bool) -> AsyncIterator[Piece]:
        """A container from its beginning until it is closed. ``paused``: with the files of pauses."""
        return self._pieces(container, container.files[0], 0, paused=paused, on=False)

    def follow_from(self, container: Container, file: SpoolFile, at: int, *, paused: bool) -> AsyncIterator[Piece]:
        """The stream from a position on, for ever; a file that is being read is read to its end, also in a pause."""
        return self._pieces(container, file, at, paused=paused, on=True)

    async def _pieces(
        self, container: Container, file: SpoolFile, at: int, *, paused: bool, on: bool
    ) -> AsyncIterator[Piece]:
        more = asyncio.Event()
        self._followers.add(more)
        handle = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                more.clear()
                end = file.size
                if at < end:
                    yield Piece(handle, at, end)
                    at = end
                    continue
                following = self._after(container, file, paused=paused, on=on)
                if following is not None:
                    container, file = following
                    os.close(handle)
                    handle, at = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC), 0
                elif file.closed and container.closed and not on:
                    return
                else:
                    await more.wait()
        finally:
            os.close(handle)
            self._followers.discard(more)

    def _after(
        self, container: Container, file: SpoolFile, *, paused: bool, on: bool
    ) -> tuple[Container, SpoolFile] | None:
        """What is to be read after a file that is closed."""
        if not file.closed:
            return None
        for one in container.files:
            if (one.mode, one.index) > (file.mode, file.index) and (paused or not one.paused):
                return container, one
        if on and container.closed:
            for later in self._later(container):
                return later, later.files[0]
        return None

    def _later(self, container: Container) -> Iterator[Container]:
        return (one for one in self.containers if one.path > container.path)

    async def end_run(self) -> None:
        """Write the end of a run into its last file, and close it."""
        self.append(self.status(RunStatusCode.END_RUN))
        await self.flush()

    def purge(self, limit: int) -> int:
        """Remove what is oldest until ``limit`` bytes are left, but no run that waits for its translation."""
        total, removed = sum(one.size for one in self.containers), 0
        for container in list(self.containers[:-1]):
            if total <= limit:
                break
            if container.run and not (container.has(TRANSLATED)):
                continue
            total -= container.size
            removed += 1
            self.containers.remove(container)
            shutil.rmtree(container.path, ignore_errors=True)
            log.info("spool_removed", container=container.path.name, bytes=container.size)
        # A long time without a run is one container: its older files go by themselves.
        while total > limit and not self.current.run and len(self.current.files) > 1:
            file = self.current.files.pop(0)
            total -= file.size
            removed += 1
            file.path.unlink(missing_ok=True)
        return removed

    def close(self) -> None:
        """The file that is being written, as it is: a run goes on when the service does."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _open(
        self, container: Container, mode: int, index: int, *, paused: bool, code: RunStatusCode, prologue: bytes
    ) -> None:
        pause = f"-p{index:08d}" if paused else ""
        run = f"-run-{container.run}" if container.run else ""
        path = container.path / f"m{mode:08d}-f{index:08d}{pause}{run}.adara"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        _sync_folder(container.path)
        self.close()
        self._handle = handle
        file = SpoolFile(path, mode, index, paused)
        container.files.append(file)
        self._since_sync = 0
        self._waiting.append(encode(Sync(0), *now()) + _status(container, file, code) + prologue)

    def _sync_packet(self) -> None:
        self._since_sync = 0
        waiting = sum(len(one) for one in self._waiting)
        self._waiting.append(encode(Sync(self.file.size + waiting), *now()))


def _status(container: Container, file: SpoolFile, code: RunStatusCode) -> bytes:
    word = ((file.mode & _MOST) << 12) | (file.index & _MOST)
    pause = file.index if file.paused else 0
    return encode(RunStatus(container.run, container.start, code, word, file.paused, pause), *now())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
