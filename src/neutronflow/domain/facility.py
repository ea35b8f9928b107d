"""Facility profiles: where files lie, and what names of facilities, instruments and experiments may look like.

SNS and HFIR ship; others come from the settings (``[facilities.NAME]``), nothing else in the code knows a facility.
Names from outside become parts of paths, so they are checked here, in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any, Final

import msgspec

from neutronflow.foundation.config import Settings
from neutronflow.foundation.errors import ConfigurationError, NeutronflowError

_NAME = re.compile(r"[A-Z0-9][A-Z0-9_-]{0,63}\Z")

#: The pseudo-instrument of ``neutronflow probe``: in no list, no statistics, no external catalog.
PROBE: Final = "PROBE"


class UnknownFacility(NeutronflowError):
    """The facility '{facility}' is not known here; known are {known}."""

    code = "unknown-facility"


class BadIdentifier(NeutronflowError):
    """'{value}' cannot be {what}."""

    code = "bad-identifier"


class FacilityProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one facility names things. Patterns are full matches on upper-case text; paths are relative to the archive root."""

    name: str
    instrument_pattern: str = r"[A-Z][A-Z0-9_-]{0,19}"
    experiment_pattern: str = r"IPTS-\d{1,12}"
    nexus_dir: str = "{facility}/{instrument}/{experiment}/nexus"
    nexus_name: str = "{instrument}_{run}.nxs.h5"
    script_dir: str = "{facility}/{instrument}/shared/autoreduce"
    reduced_dir: str = "{facility}/{instrument}/{experiment}/shared/autoreduce"


class RunKey(msgspec.Struct, frozen=True, order=True):
    """Which run: unique by facility, instrument and number. Names are upper case and safe as parts of paths."""

    facility: str
    instrument: str
    run_number: int

    def __str__(self) -> str:
        return f"{self.facility}/{self.instrument}/{self.run_number}"


class Place(msgspec.Struct, frozen=True):
    """Whose file a file is, by where it lies. Names are upper case."""

    facility: str
    instrument: str
    experiment: str
    run_number: int | None


class Facilities:
    """The facility profiles known here, and the archive they lie in."""

    def __init__(
        self, archive_root: Path, profiles: Mapping[str, FacilityProfile], probe_root: Path | None = None
    ) -> None:
        self.archive_root = archive_root
        #: Where the files of the pseudo-instrument PROBE belong.
        self._probe_root = probe_root or archive_root
        self._profiles = profiles

    @property
    def roots(self) -> tuple[Path, ...]:
        """Below which all files lie."""
        return self.archive_root, self._probe_root

    def profile(self, facility: str) -> FacilityProfile:
        """The profile of a facility by its name in any case. Raises :class:`UnknownFacility`."""
        try:
            return self._profiles[facility.upper()]
        except KeyError:
            raise UnknownFacility(facility=facility, known=", ".join(sorted(self._profiles))) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The facilities known here."""
        return tuple(sorted(self._profiles))

    def instrument(self, facility: str, instrument: str) -> tuple[str, str]:
        """Checked names of a facility and its instrument. Raises :class:`UnknownFacility` or :class:`BadIdentifier`."""
        profile = self.profile(facility)
        return profile.name, _checked(instrument, profile.instrument_pattern, "an instrument")

    def run_key(self, facility: str, instrument: str, run_number: int) -> RunKey:
        """A checked run key. Raises :class:`UnknownFacility` or :class:`BadIdentifier`."""
        names = self.instrument(facility, instrument)
        if not 0 < run_number < 2**31:
            raise BadIdentifier(value=run_number, what="a run number")
        return RunKey(*names, run_number)

    def experiment(self, facility: str, experiment: str) -> str:
        """A checked experiment identifier, upper case."""
        return _checked(experiment, self.profile(facility).experiment_pattern, "an experiment")

    def nexus_file(self, run: RunKey, experiment: str) -> Path:
        """Where the NeXus file of a run belongs (its newest version)."""
        profile = self.profile(run.facility)
        return self._place(profile.nexus_dir, run, experiment) / profile.nexus_name.format(**_fields(run, experiment))

    def script_dir(self, facility: str, instrument: str) -> Path:
        """Where the reduction scripts of an instrument lie."""
        return self._place(self.profile(facility).script_dir, RunKey(facility, instrument, 0), "")

    def reduced_dir(self, run: RunKey, experiment: str) -> Path:
        """Where the reduced data of an experiment's runs belong."""
        return self._place(self.profile(run.facility).reduced_dir, run, experiment)

    def place_of(self, path: Path) -> Place | None:
        """Whose raw or reduced file this is, by its path; None where no profile puts files there."""
        for root in (self._probe_root, self.archive_root):
            if not path.is_relative_to(root):
                continue
            relative = path.relative_to(root)
            for profile in self._profiles.values():
                for pattern in (profile.nexus_dir, profile.reduced_dir):
                    place = _place_in(profile, pattern, relative)
                    if place is not None and self._root(place.instrument) == root:
                        return place
        return None

    def contains(self, path: Path) -> bool:
        """Whether a path, with all symbolic links resolved, lies in the archive."""
        return any(path.resolve().is_relative_to(root.resolve()) for root in self.roots)

    def _place(self, pattern: str, run: RunKey, experiment: str) -> Path:
        return self._root(run.instrument) / pattern.format(**_fields(run, experiment))

    def _root(self, instrument: str) -> Path:
        return self._probe_root if instrument == PROBE else self.archive_root


def shipped_profiles() -> dict[str, FacilityProfile]:
    """The profiles that ship: SNS and HFIR."""
    return {name: FacilityProfile(name=name) for name in ("SNS", "HFIR")}


def known_facilities(settings: Settings) -> Facilities:
    """What the settings say. Raises :class:`ConfigurationError`."""
    return facilities(settings.archive_root, settings.table("facilities"), settings.probe_root)


def facilities(archive_root: Path, table: Mapping[str, Any], probe_root: Path | None = None) -> Facilities:
    """The shipped profiles and those of the settings' ``[facilities]`` table. Raises :class:`ConfigurationError`."""
    profiles = shipped_profiles()
    for name, values in table.items():
        where = f"[facilities.{name}]"
        try:
            profile = msgspec.convert({"name": name.upper(), **values}, FacilityProfile)
            re.compile(profile.instrument_pattern), re.compile(profile.experiment_pattern)
            _checked(profile.name, _NAME.pattern, "a facility")
            probe = {"facility": "F", "instrument": "I", "experiment": "E", "run": 1}
            for pattern in (profile.nexus_dir, profile.nexus_name, profile.script_dir, profile.reduced_dir):
                pattern.format(**probe)
        except (msgspec.ValidationError, re.error, TypeError, KeyError, BadIdentifier) as error:
            raise ConfigurationError(where=where, detail=str(error)) from error
        profiles[profile.name] = profile
    return Facilities(archive_root, profiles, probe_root)


def _place_in(profile: FacilityProfile, pattern: str, path: Path) -> Place | None:
    found = re.match(_as_expression(pattern, profile.name), str(path.parent), re.IGNORECASE)
    if found is None:
        return None
    names = found.groupdict()
    try:
        instrument = _checked(names.get("instrument", ""), profile.instrument_pattern, "an instrument")
        experiment = _checked(names.get("experiment", ""), profile.experiment_pattern, "an experiment")
    except BadIdentifier:
        return None
    start = profile.nexus_name.partition("{run}")[0]
    start = start.format(facility=profile.name, instrument=instrument, experiment=experiment)
    number = re.match(rf"{re.escape(start)}(\d{{1,10}})(?!\d)", path.name, re.IGNORECASE | re.ASCII)
    run_number = int(number[1]) if number and 0 < int(number[1]) < 2**31 else None
    return Place(profile.name, instrument, experiment, run_number)


def _as_expression(pattern: str, facility: str) -> str:
    """The regular expression of the folders that a pattern of a profile gives, and of those below them."""
    seen: set[str] = set()
    parts = []
    for text, field, _, _ in Formatter().parse(pattern):
        parts.append(re.escape(text))
        if field == "facility":
            parts.append(re.escape(facility))
        elif field:
            parts.append(f"(?P={field})" if field in seen else f"(?P<{field}>[^/]+)")
            seen.add(field)
    return "".join(parts) + r"(?:/|\Z)"


def _fields(run: RunKey, experiment: str) -> dict[str, object]:
    return {"facility": run.facility, "instrument": run.instrument, "run": run.run_number, "experiment": experiment}


def _checked(value: str, pattern: str, what: str) -> str:
    text = value.strip().upper()
    # The facility's own pattern decides; _NAME is the floor below which no profile can go (no separators, no dots).
    if not re.fullmatch(pattern, text) or not _NAME.match(text):
        raise BadIdentifier(value=value[:80], what=what)
    return text
