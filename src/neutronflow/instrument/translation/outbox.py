"""The translator's outbox: messages that must not get lost, one file each, until the broker has confirmed them."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import msgspec

from neutronflow.foundation.broker.message import Destination, Kind, Outgoing
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    kind: str
    destination: str
    nf_id: str
    body: str


class Outbox:
    """Messages on disk, oldest first. ``add`` may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._filled = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(self, message: Outgoing) -> None:
        """Keep a message; durable when this returns."""
        kept = _Kept(
            message.destination.kind, message.destination.name, message.nf_id, base64.b64encode(message.body).decode()
        )
        partial = self._folder / f"{message.nf_id}.part"
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(partial.with_suffix(".json"))
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self._loop.call_soon_threadsafe(self._filled.set)

    def pending(self) -> list[Path]:
        """The files of what is not confirmed yet, oldest first (their names are UUIDv7)."""
        return sorted(self._folder.glob("*.json"))

    async def publish_forever(self, session: Session) -> None:
        """Publish what is there, with receipts, then what comes."""
        while True:
            self._filled.clear()
            for path in self.pending():
                await self._publish(session, path)
            await self._filled.wait()

    async def _publish(self, session: Session, path: Path) -> None:
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            destination = Destination(Kind(kept.kind), kept.destination)
            body = base64.b64decode(kept.body)
        except (msgspec.DecodeError, ValueError) as error:
            log.error("outbox_file_unusable", file=path.name, detail=str(error))
            path.rename(path.with_suffix(".bad"))
            return
        await session.publish(Outgoing(destination=destination, body=body, nf_id=kept.nf_id))
        path.unlink()
