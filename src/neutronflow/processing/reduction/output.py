"""What a reduction leaves: a NeXus file, a table, the plot as a page, and a description of them for the catalog.

Every file appears whole or not at all: it is written beside its place and then renamed.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipp as sc
from numpy.typing import NDArray

from neutronflow import __version__
from neutronflow.processing.reduction.reduce import Reduced, RunInfo


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
    with placed(page) as path:
        path.write_text(plot, encoding="utf-8")
    description = folder / f"{name}.json"
    metadata = {
        "total_counts": reduced.total_counts,
        "monitor": reduced.monitor,
        "monitor_counts": reduced.info.monitor_counts,
    }
    write_description(reduced.info, files, metadata, description)
    return [*files, description]


def write_nexus(reduced: Reduced, target: Path) -> None:
    """Write spectra and image as NXdata with units and errors, the spectrum as default."""
    with placed(target) as path, h5py.File(path, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator=f"neutronflow {__version__}")
        entry = group(file, "entry", "NXentry", default="tof_spectrum")
        write_run(entry, reduced.info, reduced.total_counts)
        if reduced.monitor is not None:
            monitor = group(entry, reduced.monitor, "NXmonitor")
            monitor["total_counts"] = reduced.info.monitor_counts.get(reduced.monitor, 0)
        write_data(entry, "tof_spectrum", "counts", reduced.spectrum)
        if reduced.by_monitor is not None:
            write_data(entry, "tof_spectrum_by_monitor", "counts_per_monitor_count", reduced.by_monitor)
        if reduced.by_charge is not None:
            write_data(entry, "tof_spectrum_by_charge", "counts_per_charge", reduced.by_charge)
        write_data(entry, "detector_image", "counts", reduced.image)


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
    write_table(reduced.info, columns, target)


def write_table(info: RunInfo, columns: Mapping[str, NDArray[np.float64]], target: Path) -> None:
    """Write columns of equal length, under a comment with the run's title."""
    with placed(target) as path, path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {info.name} {' '.join(info.title.split())}\n")
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*([f"{value:.9g}" for value in column] for column in columns.values()), strict=True))


def write_description(info: RunInfo, files: Mapping[Path, str], metadata: Mapping[str, Any], target: Path) -> None:
    """Write the catalog's description of the output ``files`` (path -> purpose)."""
    description = {
        "version": "1.0",
        "input_files": [{"location": str(info.path), "type": "raw", "purpose": "sample-data"}],
        "output_files": [
            {"location": str(path), "type": "processed", "purpose": purpose} for path, purpose in files.items()
        ],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": "auto",
        "metadata": {
            "title": info.title,
            "proton_charge_pc": info.proton_charge_pc,
            "duration_s": info.duration_s,
            "program": f"neutronflow {__version__}",
            **({"simulated": True} if info.simulated else {}),
            **metadata,
        },
    }
    with placed(target) as path:
        path.write_text(json.dumps(description, indent=2), encoding="utf-8")


@contextlib.contextmanager
def placed(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; renamed to ``target`` if all went well."""
    path = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    """A new NeXus group."""
    made = parent.create_group(name)
    made.attrs.update(NX_class=nx_class, **attributes)
    return made


def write_run(entry: h5py.Group, info: RunInfo, total_counts: int) -> None:
    """Write what the run was, and from which file and by what it was reduced."""
    entry["title"] = info.title
    entry["entry_identifier"] = str(info.run_number)
    entry["run_number"] = str(info.run_number)
    entry["experiment_identifier"] = info.experiment
    entry["start_time"] = info.start_time
    entry["end_time"] = info.end_time
    entry["total_counts"] = total_counts
    if info.simulated:
        entry.attrs["simulated"] = True
    group(entry, "instrument", "NXinstrument")["name"] = info.instrument
    for name, value, units in (("duration", info.duration_s, "s"), ("proton_charge", info.proton_charge_pc, "pC")):
        if value is not None:
            entry[name] = value
            entry[name].attrs["units"] = units
    process = group(entry, "reduction", "NXprocess")
    process["program"] = "neutronflow"
    process["version"] = __version__
    process["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    process["raw_file"] = str(info.path)


def write_data(entry: h5py.Group, name: str, signal: str, data: sc.DataArray) -> None:
    """One NXdata: signal, its errors (standard deviations) and its axes."""
    data_group = group(entry, name, "NXdata", signal=signal, axes=list(data.dims))
    for label, values in ((signal, data.values), (f"{signal}_errors", np.sqrt(data.variances))):
        data_group.create_dataset(label, data=values, compression="gzip", compression_opts=1, shuffle=True)
        data_group[label].attrs["units"] = _units(data.unit)
    for dim in data.dims:
        data_group[dim] = data.coords[dim].values
        if data.coords[dim].unit is not None:
            data_group[dim].attrs["units"] = _units(data.coords[dim].unit)
        data_group.attrs[f"{dim}_indices"] = data.dims.index(dim)
    if "monitor_relative_error" in data.coords:
        data_group["monitor_relative_error"] = data.coords["monitor_relative_error"].value


def _units(unit: sc.Unit | None) -> str:
    return {"µs": "us", "dimensionless": "1", "None": "1"}.get(str(unit), str(unit))
