"""Powder diffraction: a run's events focused to plane spacing, each by the flight path and angle of its pixel."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import scipp as sc
from numpy.typing import NDArray
from scippneutron.conversion.tof import dspacing_from_tof

from neutronflow.processing.reduction.events import EventFile, NotAnEventFile
from neutronflow.processing.reduction.geometry import BadDefinition, Geometry, read_definition
from neutronflow.processing.reduction.reduce import RunInfo, run_info
from neutronflow.processing.reduction.spectrum import per_charge


class Focused(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a powder pattern: scipp data arrays with variances, dim ``dspacing`` (bin edges in Å)."""

    info: RunInfo
    #: Events of detector banks in the file.
    total_counts: int
    #: Of these, how many have a pixel that the definition does not know, and how many a spacing beyond the bins.
    unplaced: int
    outside: int
    pattern: sc.DataArray
    #: The same by proton charge (counts/mC), where there is any.
    by_charge: sc.DataArray | None


def focus_run(path: Path, *, d_min: float = 0.4, d_max: float = 4.0, d_step: float = 0.001) -> Focused:
    """Focus the run in an event file, which has to hold the definition of its instrument.

    Bins reach from ``d_min`` to ``d_max`` (Å), each wider than the one before by the factor 1 + ``d_step``.
    Raises :class:`NotAnEventFile`.
    """
    if not (0.0 < d_min < d_max and 0.0 < d_step < 1.0):
        raise ValueError(f"no bins reach from {d_min} to {d_max} Å in relative steps of {d_step}")
    count = int(np.ceil(np.log(d_max / d_min) / np.log1p(d_step)))
    edges = sc.geomspace("dspacing", d_min, d_max, count + 1, unit="angstrom")
    with EventFile(path) as file:
        info = run_info(file)
        factor = spacing_by_pixel(_geometry(file))
        counts = np.zeros(count, np.float64)
        total = unplaced = 0
        for bank in file.banks():
            try:
                for pixel_ids, tof_us in bank.chunks():
                    spacing, placed = _spacing(factor, np.asarray(pixel_ids), tof_us)
                    counts += _histogram(spacing, edges)
                    total += len(pixel_ids)
                    unplaced += len(pixel_ids) - placed
            except (ValueError, OSError, sc.UnitError) as error:
                raise NotAnEventFile(path=path, detail=f"bank {bank.number}: {error}") from error
    pattern = sc.DataArray(
        sc.array(dims=["dspacing"], values=counts, variances=counts, unit="counts"), coords={"dspacing": edges}
    )
    charge = sc.scalar(info.proton_charge_pc, unit="pC") if info.proton_charge_pc is not None else None
    return Focused(
        info=info,
        total_counts=total,
        unplaced=unplaced,
        outside=total - unplaced - int(counts.sum()),
        pattern=pattern,
        by_charge=per_charge(pattern, charge),
    )


def spacing_by_pixel(geometry: Geometry) -> NDArray[np.float64]:
    """By pixel id: plane spacing (Å) by time of flight (µs), of a pixel; NaN where there is no pixel, or one in the beam."""
    factor = np.full(int(geometry.pixel_ids[-1]) + 1, np.nan)
    length = sc.array(dims=["pixel"], values=geometry.l1 + geometry.l2, unit="m")
    angle = sc.array(dims=["pixel"], values=geometry.two_theta, unit="rad")
    spacing = dspacing_from_tof(tof=sc.scalar(1.0, unit="us"), Ltotal=length, two_theta=angle)
    values = spacing.to(unit="angstrom").values
    factor[geometry.pixel_ids] = np.where(np.isfinite(values), values, np.nan)
    return factor


def _geometry(file: EventFile) -> Geometry:
    xml = file.text("instrument/instrument_xml/data")
    if not xml:
        raise NotAnEventFile(path=file.path, detail="it has no definition of its instrument")
    try:
        return read_definition(xml, file.log_value)
    except BadDefinition as error:
        raise NotAnEventFile(path=file.path, detail=str(error)) from error


def _spacing(
    factor: NDArray[np.float64], pixel_ids: NDArray[np.uint32], tof_us: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """Plane spacings (Å) of the events whose pixel is known, and how many these are."""
    if tof_us.size and not np.isfinite(tof_us).all():
        raise ValueError("there are times of flight that are no numbers")
    known = pixel_ids < factor.size
    if not known.all():
        pixel_ids, tof_us = pixel_ids[known], tof_us[known]
    spacing = factor[pixel_ids] * tof_us
    placed = spacing[~np.isnan(spacing)]
    return placed, placed.size


def _histogram(spacing: NDArray[np.float64], edges: sc.Variable) -> NDArray[np.float64]:
    events = sc.DataArray(
        sc.ones(dims=["event"], shape=[spacing.size], unit="counts"),
        coords={"dspacing": sc.array(dims=["event"], values=spacing, unit="angstrom")},
    )
    counts: NDArray[np.float64] = events.hist(dspacing=edges).values
    return counts
