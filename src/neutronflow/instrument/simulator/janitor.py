"""Simulated runs come without end, so the oldest of their files go. Nobody has measured what is in them."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.facility import Facilities
from neutronflow.foundation.telemetry import get_logger

log = get_logger(__name__)

_EVERY_S: Final = 60.0
#: What is younger may still be worked on.
_YOUNG_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    changed: float


class Janitor:
    """Keeps raw and reduced files of one instrument, and the simulator's record, below a size.

    Nothing else is ever touched: no file of another instrument, no script, no link.
    """

    def __init__(self, known: Facilities, beamline: BeamlineSettings, records: Path, keep_bytes: float) -> None:
        self._facilities = known
        self._profile = known.profile(beamline.facility)
        self._instrument = beamline.short_name.upper()
        self._simulated = beamline.simulated
        self._records = records
        self._keep_bytes = keep_bytes

    async def run(self) -> None:
        """Clean up every minute, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.clean)
            except OSError as error:
                log.warning("cleaning_failed", detail=str(error))
            await asyncio.sleep(_EVERY_S)

    def clean(self, now: float | None = None) -> list[Path]:
        """Remove the oldest files beyond the size; returns those removed."""
        if not self._simulated:
            return []
        files = sorted(self._files(), key=lambda file: file.changed)
        total = sum(file.size for file in files)
        before = (time.time() if now is None else now) - _YOUNG_S
        removed = []
        for file in files:
            if total <= self._keep_bytes or file.changed > before:
                break
            file.path.unlink(missing_ok=True)
            total -= file.size
            removed.append(file.path)
            log.info("simulated_file_removed", path=str(file.path), bytes=file.size)
        return removed

    def _files(self) -> Iterator[_File]:
        root = self._facilities.archive_root
        for pattern in {self._profile.nexus_dir, self._profile.reduced_dir}:
            names = {"facility": self._profile.name, "instrument": self._instrument, "run": "*", "experiment": "*"}
            for folder in root.glob(pattern.format(**names)):
                for file in _regular(folder):
                    place = self._facilities.place_of(file.path)
                    if place and (place.facility, place.instrument) == (self._profile.name, self._instrument):
                        yield file
        yield from _regular(self._records)


def _regular(folder: Path) -> Iterator[_File]:
    """The regular files of a folder and those below it, none of which is reached through a link."""
    if folder.is_symlink():
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield _File(path, found.st_size, found.st_mtime)
