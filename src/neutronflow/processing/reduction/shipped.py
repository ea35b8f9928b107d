"""The reduction scripts that ship, and how they get to where agents look for them."""

from __future__ import annotations

import os
from pathlib import Path

from neutronflow.domain.facility import Facilities
from neutronflow.foundation.telemetry import get_logger

#: (facility, instrument) -> script in ``scripts``; installed as ``reduce_<INST>.py``.
SCRIPTS = {("SNS", "HYS"): "reduce_HYS.py", ("SNS", "PG3"): "reduce_PG3.py"}

log = get_logger(__name__)


def install_shipped_scripts(facilities: Facilities) -> list[Path]:
    """Copy each script that ships into its instrument's script folder; never over a file that is there.

    Returns the paths of those that were copied. Raises :class:`OSError` when a folder cannot be written.
    """
    installed = []
    for (facility, instrument), name in SCRIPTS.items():
        target = install_script(facilities, facility, instrument, name)
        if target is not None:
            log.info("script_installed", path=str(target))
            installed.append(target)
    return installed


def install_script(facilities: Facilities, facility: str, instrument: str, name: str) -> Path | None:
    """Copy the script ``name`` of those that ship to where the instrument's belongs; None where one is there already."""
    target = facilities.script_dir(facility, instrument) / f"reduce_{instrument}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _copy_once(Path(__file__).with_name("scripts") / name, target):
        return None
    return target


def _copy_once(source: Path, target: Path) -> bool:
    """Copy a file so that the target appears whole, unless there is one already (or a link, even to nowhere)."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_bytes(source.read_bytes())
    try:
        # A hard link, unlike a rename, fails when somebody has been quicker.
        target.hardlink_to(beside)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True
