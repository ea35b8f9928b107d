"""What the reduction of a powder run leaves: the pattern as NeXus file and table, its plot, and their description."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from neutronflow import __version__
from neutronflow.processing.reduction.output import (
    group,
    placed,
    write_data,
    write_description,
    write_run,
    write_table,
)
from neutronflow.processing.reduction.powder import Focused


def write_pattern(focused: Focused, folder: Path, plot: str) -> list[Path]:
    """Write all output files of a run into ``folder``; ``plot`` is its figure as HTML.

    Returns their paths; the last is the description for the catalog, ``<INST>_<run>.json``.
    """
    info, folder = focused.info, folder.absolute()
    files = {
        folder / f"{info.name}_reduced.nxs.h5": "reduced-data",
        folder / f"{info.name}_reduced.csv": "reduced-data",
        folder / f"{info.name}_plot.html": "plot",
    }
    nexus, table, page = files
    _write_nexus(focused, nexus)
    _write_csv(focused, table)
    with placed(page) as path:
        path.write_text(plot, encoding="utf-8")
    metadata = {
        "total_counts": focused.total_counts,
        "counts_without_pixel": focused.unplaced,
        "counts_beyond_bins": focused.outside,
    }
    description = folder / f"{info.name}.json"
    write_description(info, files, metadata, description)
    return [*files, description]


def _write_nexus(focused: Focused, target: Path) -> None:
    with placed(target) as path, h5py.File(path, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator=f"neutronflow {__version__}")
        by_charge = focused.by_charge
        default = "powder_pattern" if by_charge is None else "powder_pattern_by_charge"
        entry = group(file, "entry", "NXentry", default=default)
        write_run(entry, focused.info, focused.total_counts)
        write_data(entry, "powder_pattern", "counts", focused.pattern)
        if by_charge is not None:
            write_data(entry, "powder_pattern_by_charge", "counts_per_charge", by_charge)


def _write_csv(focused: Focused, target: Path) -> None:
    edges = focused.pattern.coords["dspacing"].values
    columns = {
        "d_low_angstrom": edges[:-1],
        "d_high_angstrom": edges[1:],
        "counts": focused.pattern.values,
        "counts_error": np.sqrt(focused.pattern.variances),
    }
    if focused.by_charge is not None:
        columns["per_mC"] = focused.by_charge.values
        columns["per_mC_error"] = np.sqrt(focused.by_charge.variances)
    write_table(focused.info, columns, target)
