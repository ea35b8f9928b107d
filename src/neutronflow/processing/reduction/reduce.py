"""One pass over a run's events: what comes out is small, whatever the run's size."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import scipp as sc

from neutronflow.processing.reduction.detector import PixelCounts, detector_image
from neutronflow.processing.reduction.events import Bank, EventFile, NotAnEventFile
from neutronflow.processing.reduction.spectrum import TofCounts, per_charge, per_monitor, tof_spectrum


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of the run. Times are texts (ISO 8601) as in the file."""

    path: Path
    instrument: str
    run_number: int
    experiment: str
    title: str
    start_time: str
    end_time: str
    duration_s: float | None
    #: pC, or ``None``.
    proton_charge_pc: float | None
    monitor_counts: dict[str, int]
    #: Whether the file says that its events are simulated.
    simulated: bool = False

    @property
    def name(self) -> str:
        """``<INSTRUMENT>_<run>``: what names of output files begin with."""
        return f"{self.instrument}_{self.run_number}"


class Reduced(msgspec.Struct, frozen=True, kw_only=True):
    """A reduced run: scipp data arrays with variances."""

    info: RunInfo
    total_counts: int
    #: Counts over TOF, dim ``tof``.
    spectrum: sc.DataArray
    #: The same by counts of the beam monitor ``monitor``, and by proton charge (counts/mC), where there are any.
    by_monitor: sc.DataArray | None
    by_charge: sc.DataArray | None
    monitor: str | None
    #: Counts per pixel, dims ``pixel``, ``tube``.
    image: sc.DataArray


def reduce_run(path: Path, *, tof_bin_us: float | None = None, monitor: str | None = None) -> Reduced:
    """Reduce the run in an event file.

    ``monitor`` names the beam monitor to normalise by; default: the first one that has counted.

    Raises :class:`NotAnEventFile`.
    """
    with EventFile(path) as file:
        info = run_info(file)
        banks = file.banks()
        tofs, pixels = _count(path, banks)
        maps = [bank.pixel_ids for bank in banks] if all(bank.pixel_ids.size for bank in banks) else []
    spectrum = tof_spectrum(tofs, tof_bin_us)
    chosen = monitor or next((name for name, counts in sorted(info.monitor_counts.items()) if counts), None)
    charge = sc.scalar(info.proton_charge_pc, unit="pC") if info.proton_charge_pc is not None else None
    return Reduced(
        info=info,
        total_counts=int(tofs.counts.sum()),
        spectrum=spectrum,
        by_monitor=per_monitor(spectrum, info.monitor_counts.get(chosen or "", 0)),
        by_charge=per_charge(spectrum, charge),
        monitor=chosen,
        image=detector_image(maps, pixels),
    )


def _count(path: Path, banks: list[Bank]) -> tuple[TofCounts, PixelCounts]:
    tofs, pixels = TofCounts(), PixelCounts()
    for bank in banks:
        try:
            for pixel_ids, tof_us in bank.chunks():
                tofs.add(tof_us)
                pixels.add(np.asarray(pixel_ids))
        except (ValueError, OSError, sc.UnitError) as error:
            raise NotAnEventFile(path=path, detail=f"bank {bank.number}: {error}") from error
    return tofs, pixels


def run_info(file: EventFile) -> RunInfo:
    """What an event file says of its run. Raises :class:`NotAnEventFile`."""
    duration, charge = file.number("duration", "s"), file.number("proton_charge", "pC")
    return RunInfo(
        path=file.path,
        instrument=file.instrument,
        run_number=file.run_number,
        experiment=file.text("experiment_identifier"),
        title=file.text("title"),
        start_time=file.text("start_time"),
        end_time=file.text("end_time"),
        duration_s=float(duration.to(unit="s").value) if duration is not None else None,
        proton_charge_pc=float(charge.to(unit="pC").value) if charge is not None else None,
        monitor_counts=file.monitor_counts(),
        simulated=file.simulated,
    )
