"""The translator's outbox: messages that must not get lost, one file each, until the broker has confirmed them."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Final

import msgspec

from neutronflow.foundation.broker.message import Destination, Kind, Outgoing
from neutronflow.foundation.broker.session import PublicationRefused, Session
from neutronflow.foundation.telemetry import get_logger
from neutronflow.instrument.translation.archive import sync

log = get_logger(__name__)

#: What the broker has refused, or the disk would not give, is tried again after this pause.
_AGAIN_S: Final = 10.0


class _Kept(msgspec.Struct, frozen=True):
    kind: str
    destination: str
    nf_id: str
    body: str


class Outbox:
    """Messages on disk, oldest first. ``add`` may be called from any thread."""

    def __init__(self, folder: Path, again_s: float = _AGAIN_S) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._again_s = again_s
        self._filled = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for unfinished in folder.glob("*.part"):  # of a translator that was killed: its sender was told nothing yet
            unfinished.unlink()

    def add(self, *messages: Outgoing) -> None:
        """Keep messages; durable when this returns."""
        for message in messages:
            self._write(message)
        sync(self._folder)
        self._loop.call_soon_threadsafe(self._filled.set)

    def pending(self) -> list[Path]:
        """The files of what is not confirmed yet, oldest first (their names are UUIDv7)."""
        return sorted(self._folder.glob("*.json"))

    async def publish_forever(self, session: Session) -> None:
        """Publish what is there, with receipts, then what comes. One that is refused keeps none of the others waiting."""
        while True:
            self._filled.clear()
            done = [await self._publish(session, path) for path in self.pending()]
            try:
                async with asyncio.timeout(None if all(done) else self._again_s):
                    await self._filled.wait()
            except TimeoutError:
                continue

    def _write(self, message: Outgoing) -> None:
        kept = _Kept(
            message.destination.kind, message.destination.name, message.nf_id, base64.b64encode(message.body).decode()
        )
        partial = self._folder / f"{message.nf_id}.part"
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(partial.with_suffix(".json"))

    async def _publish(self, session: Session, path: Path) -> bool:
        """Publish one, and forget it; False where it has to be tried again."""
        try:
            message = _read(path)
            if message is None:
                path.rename(path.with_suffix(".bad"))
                return True
            await session.publish(message)
            path.unlink()
        except (PublicationRefused, OSError) as error:
            log.error("outbox_message_waits", file=path.name, detail=str(error), again_s=self._again_s)
            return False
        return True


def _read(path: Path) -> Outgoing | None:
    """The message in a file; None where there is none in it."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        destination = Destination(Kind(kept.kind), kept.destination)
        return Outgoing(destination=destination, body=base64.b64decode(kept.body), nf_id=kept.nf_id)
    except (msgspec.DecodeError, ValueError) as error:
        log.error("outbox_file_unusable", file=path.name, detail=str(error))
        return None
