"""What a reduction leaves: a NeXus file, a table, the plot as a page, and a description of them for the catalog.

Every file appears whole or not at all: it is written beside its place and then renamed.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipp as sc

from neutronflow import __version__
from neutronflow.processing.reduction.reduce import Reduced


def write_results(reduced: Reduced, folder: Path, plot: str) -> list[Path]:
    """Write all output files of a run into ``folder``; ``plot`` is its figure as HTML.

    Returns their paths; the last is the description for the catalog, ``<INST>_<run>.json``.
    """
    name, folder = reduced.info.name, folder.absolute()
    files = {
        folder / f"{name}_reduced.nxs.h5": "reduced-data",
        folder / f"{name}_reduced.csv": "reduced-data",
        folder / f"{name}_plot.html": "plot",
    }
    nexus, table, page = files
    write_nexus(reduced, nexus)
    write_csv(reduced, table)
    with _placed(page) as path:
        path.write_text(plot, encoding="utf-8")
    description = folder / f"{name}.json"
    write_description(reduced, files, description)
    return [*files, description]


def write_nexus(reduced: Reduced, target: Path) -> None:
    """Write spectra and image as NXdata with units and errors, the spectrum as default."""
    with _placed(target) as path, h5py.File(path, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator=f"neutronflow {__version__}")
        entry = _group(file, "entry", "NXentry", default="tof_spectrum")
        _write_run(entry, reduced)
        _write_process(entry, reduced)
        _write_data(entry, "tof_spectrum", "counts", reduced.spectrum)
        if reduced.by_monitor is not None:
            _write_data(entry, "tof_spectrum_by_monitor", "counts_per_monitor_count", reduced.by_monitor)
        if reduced.by_charge is not None:
            _write_data(entry, "tof_spectrum_by_charge", "counts_per_charge", reduced.by_charge)
        _write_data(entry, "detector_image", "counts", reduced.image)


def write_csv(reduced: Reduced, target: Path) -> None:
    """Write the spectra as a table: one line a TOF bin, comments begin with ``#``."""
    edges = reduced.spectrum.coords["tof"].values
    columns = {
        "tof_low_us": edges[:-1],
        "tof_high_us": edges[1:],
        "counts": reduced.spectrum.values,
        "counts_error": np.sqrt(reduced.spectrum.variances),
    }
    for label, data in (("per_monitor_count", reduced.by_monitor), ("per_mC", reduced.by_charge)):
        if data is not None:
            columns[label] = data.values
            columns[f"{label}_error"] = np.sqrt(data.variances)
    with _placed(target) as path, path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {reduced.info.name} {' '.join(reduced.info.title.split())}\n")
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*([f"{value:.9g}" for value in column] for column in columns.values()), strict=True))


def write_description(reduced: Reduced, files: dict[Path, str], target: Path) -> None:
    """Write the catalog's description of the output ``files`` (path -> purpose)."""
    info = reduced.info
    metadata = {
        "title": info.title,
        "total_counts": reduced.total_counts,
        "proton_charge_pc": info.proton_charge_pc,
        "duration_s": info.duration_s,
        "monitor": reduced.monitor,
        "monitor_counts": info.monitor_counts,
        "program": f"neutronflow {__version__}",
    }
    description = {
        "version": "1.0",
        "input_files": [{"location": str(info.path), "type": "raw", "purpose": "sample-data"}],
        "output_files": [
            {"location": str(path), "type": "processed", "purpose": purpose} for path, purpose in files.items()
        ],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": "auto",
        "metadata": metadata,
    }
    with _placed(target) as path:
        path.write_text(json.dumps(description, indent=2), encoding="utf-8")


@contextlib.contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; renamed to ``target`` if all went well."""
    path = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update(NX_class=nx_class, **attributes)
    return group


def _write_run(entry: h5py.Group, reduced: Reduced) -> None:
    info = reduced.info
    entry["title"] = info.title
    entry["entry_identifier"] = str(info.run_number)
    entry["run_number"] = str(info.run_number)
    entry["experiment_identifier"] = info.experiment
    entry["start_time"] = info.start_time
    entry["end_time"] = info.end_time
    entry["total_counts"] = reduced.total_counts
    _group(entry, "instrument", "NXinstrument")["name"] = info.instrument
    for name, value, units in (("duration", info.duration_s, "s"), ("proton_charge", info.proton_charge_pc, "pC")):
        if value is not None:
            entry[name] = value
            entry[name].attrs["units"] = units
    if reduced.monitor is not None:
        monitor = _group(entry, reduced.monitor, "NXmonitor")
        monitor["total_counts"] = info.monitor_counts.get(reduced.monitor, 0)


def _write_process(entry: h5py.Group, reduced: Reduced) -> None:
    process = _group(entry, "reduction", "NXprocess")
    process["program"] = "neutronflow"
    process["version"] = __version__
    process["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    process["raw_file"] = str(reduced.info.path)


def _write_data(entry: h5py.Group, name: str, signal: str, data: sc.DataArray) -> None:
    """One NXdata: signal, its errors (standard deviations) and its axes."""
    group = _group(entry, name, "NXdata", signal=signal, axes=list(data.dims))
    for label, values in ((signal, data.values), (f"{signal}_errors", np.sqrt(data.variances))):
        group.create_dataset(label, data=values, compression="gzip", compression_opts=1, shuffle=True)
        group[label].attrs["units"] = _units(data.unit)
    for dim in data.dims:
        group[dim] = data.coords[dim].values
        if data.coords[dim].unit is not None:
            group[dim].attrs["units"] = _units(data.coords[dim].unit)
        group.attrs[f"{dim}_indices"] = data.dims.index(dim)
    if "monitor_relative_error" in data.coords:
        group["monitor_relative_error"] = data.coords["monitor_relative_error"].value


def _units(unit: sc.Unit | None) -> str:
    return {"µs": "us", "dimensionless": "1", "None": "1"}.get(str(unit), str(unit))
