"""Catalog raw and reduced data."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from neutronflow.clients.catalog import CatalogClient, CatalogRefused, CatalogUnavailable
from neutronflow.domain.facility import PROBE, Facilities
from neutronflow.processing.steps.outcome import Ending, StepFailed, StepResult, Work

#: A description of reduced data is a small file; one that is larger is something else.
MAX_DESCRIPTION_BYTES = 1_000_000


class _Description(msgspec.Struct):
    """What must be in a description before the catalog is asked to read it."""

    input_files: list[msgspec.Raw]
    output_files: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Catalogs:
    """Where runs are cataloged: those of the probe never anywhere but in the built-in catalog."""

    facility: CatalogClient
    builtin: CatalogClient

    def of(self, work: Work) -> CatalogClient:
        """The catalog of this run."""
        return self.builtin if work.run.instrument == PROBE else self.facility


async def catalog_raw(catalogs: Catalogs, work: Work) -> StepResult:
    """Have the catalog read the run's raw data file. Raises :class:`StepFailed`."""
    try:
        entry = await catalogs.of(work).ingest_datafile(work.data_file)
    except (CatalogRefused, CatalogUnavailable) as error:
        raise StepFailed(detail=str(error)) from error
    return StepResult(ending=Ending.COMPLETE, log=_story(work.data_file, entry))


async def catalog_reduced(catalogs: Catalogs, facilities: Facilities, work: Work) -> StepResult:
    """Have the catalog read what the reduction script says of its output, ``<INST>_<run>.json`` beside it.

    Raises :class:`StepFailed`, also when there is nothing to be cataloged.
    """
    path = facilities.reduced_dir(work.run, work.experiment) / f"{work.run.instrument}_{work.run.run_number}.json"
    await asyncio.to_thread(_check_description, path)
    try:
        entry = await catalogs.of(work).ingest_reduction(str(path))
    except (CatalogRefused, CatalogUnavailable) as error:
        raise StepFailed(detail=str(error)) from error
    return StepResult(ending=Ending.COMPLETE, log=_story(str(path), entry))


def _check_description(path: Path) -> None:
    try:
        # A pipe would block open().
        if not stat.S_ISREG(path.stat().st_mode):
            raise StepFailed(detail=f"{path} is no regular file")
        with path.open("rb") as file:
            body = file.read(MAX_DESCRIPTION_BYTES + 1)
    except FileNotFoundError:
        raise StepFailed(
            detail=f"Nothing was cataloged: the reduction has written no description of its output, {path}"
        ) from None
    except OSError as error:
        raise StepFailed(detail=f"The description of the reduced data cannot be read: {error}") from error
    if len(body) > MAX_DESCRIPTION_BYTES:
        raise StepFailed(detail=f"{path} is larger than {MAX_DESCRIPTION_BYTES} bytes")
    try:
        description = msgspec.json.decode(body, type=_Description)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StepFailed(detail=f"{path} does not describe reduced data: {error}") from error
    if not description.input_files or not description.output_files:
        raise StepFailed(detail=f"{path} names no input or no output files")


def _story(path: str, entry: dict[str, object]) -> str:
    answer = msgspec.json.format(msgspec.json.encode(entry), indent=2).decode()
    return f"Sent to the catalog: {path}\nThe catalog's answer:\n{answer}\n"
