"""What a run says of itself: people, sample, titles; and how that is written."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import h5py
import numpy as np

from neutronflow.domain.adara.packets import RunInfo
from neutronflow.domain.adara.xml import child_text, last_child_text, parse_xml
from neutronflow.instrument.translation import hdf5

#: element of <sample> -> name in the file, for texts and for numbers (which may have units).
_SAMPLE_TEXTS = {
    "id": "identifier",
    **{
        name: name
        for name in (
            "name", "nature", "chemical_formula", "component", "container_id", "container_name", "can_indicator",
            "can_barcode", "can_name", "can_materials", "description", "comments",
        )
    },
}  # fmt: skip
_SAMPLE_NUMBERS = (
    "mass", "mass_density", "height_in_container", "interior_diameter", "interior_height", "interior_width",
    "interior_depth", "outer_diameter", "outer_height", "outer_width", "outer_depth", "volume_cubic",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class User:
    """One of the people of a run."""

    name: str
    facility_user_id: str
    role: str


class RunDescription:
    """RUN_INFO, read once. Raises ValueError where the XML cannot be used."""

    def __init__(self, info: RunInfo) -> None:
        self._root = parse_xml(info.xml)
        self.users = [
            User(child_text(user, "name"), child_text(user, "id"), child_text(user, "role"))
            for user in self._root.iter("user")
        ]
        self.save_pixel_map = self._root.find("save_pixel_map") is not None
        self.simulated = self.text("simulated").strip() == "true"
        self.notes_may_change = self._root.find("run_notes_updates_enabled") is not None

    def text(self, tag: str) -> str:
        """The text of a top-level element, of several the last; empty where there is none."""
        return last_child_text(self._root, tag) or ""

    def write_people_and_sample(self, entry: h5py.Group) -> None:
        """Write /entry/userN and /entry/sample."""
        for number, user in enumerate(self.users, 1):
            group = hdf5.make_group(entry, f"user{number}", "NXuser")
            hdf5.put_text(group, "name", user.name)
            hdf5.put_text(group, "facility_user_id", user.facility_user_id)
            hdf5.put_text(group, "role", user.role)
        sample = self._root.find("sample")
        if sample is not None:
            _write_sample(hdf5.make_group(entry, "sample", "NXsample"), sample)


def _write_sample(group: h5py.Group, sample: Element) -> None:
    for tag, name in _SAMPLE_TEXTS.items():
        text = child_text(sample, tag)
        if text:
            hdf5.put_text(group, name, text)
    for name in _SAMPLE_NUMBERS:
        units = child_text(sample, f"{name}_units")
        hdf5.put_scalar(group, name, np.float64(_number(child_text(sample, name))), {"units": units} if units else None)


def _number(text: str) -> float:
    try:
        return float(text) if text else 0.0
    except ValueError:
        return 0.0
