"""A run's description, as it is given to the run control and as the stream carries it."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from neutronflow import __version__
from neutronflow.domain.adara.packets import RunInfo
from neutronflow.domain.beamline import BeamlineSettings

_SCHEMA: Final = "http://public.sns.gov/schema/runinfo.xsd"
#: Control characters cannot stand in XML.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_LONGEST: Final = 4000


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member of the experiment."""

    name: str
    id: str
    role: str = "Member"


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The sample; what is not said is left out."""

    id: str = ""
    name: str = ""
    nature: str = ""
    chemical_formula: str = ""
    mass: str = ""
    mass_units: str = ""
    mass_density: str = ""
    mass_density_units: str = ""
    container_id: str = ""
    container_name: str = ""
    component: str = ""
    description: str = ""
    comments: str = ""
    height_in_container: str = ""
    height_in_container_units: str = ""


class RunDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run is started with."""

    proposal_id: str
    proposal_title: str = ""
    run_title: str = ""
    sample: Sample = Sample()
    users: list[Person] = msgspec.field(default_factory=list)


def run_info(description: RunDescription, beamline: BeamlineSettings, run_number: int) -> RunInfo:
    """The RUN_INFO of a run."""
    simulated = " (simulated)" if beamline.simulated else ""
    lines = [
        _element("das_version", f"Neutronflow {__version__}{simulated}"),
        _element("facility_name", beamline.facility),
        _element("instrument_name", beamline.beamline_id),
        _element("run_number", str(run_number)),
        *_users(description.users),
        _element("proposal_id", description.proposal_id),
        _element("proposal_title", description.proposal_title),
        _element("run_title", description.run_title),
        *_sample(description.sample),
        *(["   <simulated>true</simulated>"] if beamline.simulated else []),
        "   <save_pixel_map/>",
        "   <run_notes_updates_enabled/>",
    ]
    return RunInfo(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<runinfo xmlns="{_SCHEMA}">\n' + "\n".join(lines) + "\n</runinfo>"
    )


def _users(users: list[Person]) -> list[str]:
    if not users:
        return []
    lines = ["   <users>"]
    for user in users:
        fields = (("name", user.name), ("id", user.id), ("role", user.role))
        lines += ["      <user>", *(_element(tag, text, 9) for tag, text in fields), "      </user>"]
    return [*lines, "   </users>"]


def _sample(sample: Sample) -> list[str]:
    said = {tag: text for tag, text in msgspec.structs.asdict(sample).items() if text}
    if not said:
        return ["   <no_sample_info/>"]
    return ["   <sample>", *(_element(tag, text, 6) for tag, text in said.items()), "   </sample>"]


def _element(tag: str, text: str, indent: int = 3) -> str:
    return f"{' ' * indent}<{tag}>{escape(_NO_XML.sub('', text)[:_LONGEST])}</{tag}>"
