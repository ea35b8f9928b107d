"""The routes, shaped as ONCat's."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from neutronflow.domain.facility import PROBE
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.foundation.telemetry import get_logger
from neutronflow.store.text import storable
from neutronflow.web.catalog.documents import read_document
from neutronflow.web.catalog.metadata import ReadingTooSlow, read_metadata
from neutronflow.web.catalog.models import Datafile, Reduction
from neutronflow.web.catalog.settings import CATALOG, FACILITIES

log = get_logger(__name__)

_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000
_MAX_RANGES = 100
_TAGS = ("type/raw",)
_RUN_IN_NAME = re.compile(r"_([0-9]{1,10})(?:[._]|\Z)")
#: Longer paths do not fit into the index of locations.
_MAX_PATH = 1000
_LARGEST = 2**63 - 1


class NotFound(NeutronflowError):
    """Could not find the file {path} in the archive."""

    code = "not-found"


class BadQuery(NeutronflowError):
    """The query cannot be understood: {detail}."""

    code = "bad-query"


@require_POST
def ingest_datafile(_request: HttpRequest, path: str) -> JsonResponse:
    """Read a raw file and put it into the catalog, or renew its entry."""
    try:
        location = _in_archive(path)
        metadata = read_metadata(location, CATALOG.read_timeout_s)
    except NotFound as error:
        return _message(404, error)
    except ReadingTooSlow as error:
        return _message(503, error)
    except NeutronflowError as error:
        return _message(400, error)
    names = _names_of(location, metadata["entry"])
    entry, created = Datafile.objects.update_or_create(
        location=str(location),
        defaults={
            **names,
            "ext": (".nxs.h5" if location.name.endswith(".nxs.h5") else location.suffix)[:32],
            "metadata": metadata,
            "ingested": Now(),
        },
    )
    entry.refresh_from_db()
    log.info("datafile_ingested", location=str(location), created=created)
    return JsonResponse(_datafile(entry))


@require_POST
def ingest_reduction(_request: HttpRequest, path: str) -> JsonResponse:
    """Read the document of a reduction and put it into the catalog, or renew its entry."""
    try:
        location = _in_archive(path)
        document = read_document(location)
    except NotFound as error:
        return _message(404, error)
    except NeutronflowError as error:
        return _message(400, error)
    entry, created = Reduction.objects.update_or_create(
        location=str(location),
        defaults={**_names_of(location, {}), "document": document, "ingested": Now()},
    )
    entry.refresh_from_db()
    log.info("reduction_ingested", location=str(location), created=created)
    return JsonResponse(_reduction(entry))


@require_http_methods(["DELETE"])
def remove_probe(_request: HttpRequest, run_number: int) -> JsonResponse:
    """Remove what is cataloged of a run of the pseudo-instrument PROBE; its files may be gone already."""
    if run_number > _LARGEST:
        return JsonResponse({"removed": 0})
    models = (Datafile, Reduction)
    removed = sum(one.objects.filter(instrument=PROBE, run_number=run_number).delete()[0] for one in models)
    return JsonResponse({"removed": removed})


@require_safe
def list_datafiles(request: HttpRequest) -> JsonResponse:
    """Data files by facility, instrument, experiment, run, tag and extension; only the projected fields."""
    rows = Datafile.objects.all()
    if any(tag not in _TAGS for tag in request.GET.getlist("tags")):
        rows = rows.none()
    if extensions := request.GET.getlist("exts"):
        rows = rows.filter(ext__in=[storable(extension) for extension in extensions[:_MAX_RANGES]])
    try:
        found = _filtered(rows, request)
    except BadQuery as error:
        return _message(400, error)
    wanted = request.GET.getlist("projection")
    return JsonResponse([_projected(_datafile(entry), wanted) for entry in found], safe=False)


@require_safe
def retrieve_datafile(request: HttpRequest, path: str) -> JsonResponse:
    """One data file by its location."""
    location = storable("/" + path.lstrip("/"))
    entry = Datafile.objects.filter(location=location).first()
    if entry is None:
        return _message(404, NotFound(path=location[:_MAX_PATH]))
    return JsonResponse(_projected(_datafile(entry), request.GET.getlist("projection")))


@require_safe
def list_reductions(request: HttpRequest) -> JsonResponse:
    """Reductions by facility, instrument, experiment and run."""
    try:
        found = _filtered(Reduction.objects.all(), request)
    except BadQuery as error:
        return _message(400, error)
    wanted = request.GET.getlist("projection")
    return JsonResponse([_projected(_reduction(entry), wanted) for entry in found], safe=False)


@require_safe
def list_instruments(request: HttpRequest) -> JsonResponse:
    """Instruments with data."""
    rows = _named(Datafile.objects.all(), request, "facility")
    found = rows.values_list("facility", "instrument").distinct().order_by("facility", "instrument")
    return JsonResponse(
        [{"id": name, "name": name, "type": "instrument", "facility": facility} for facility, name in found], safe=False
    )


@require_safe
def list_experiments(request: HttpRequest) -> JsonResponse:
    """Experiments with data, the one with the newest data first."""
    rows = _named(Datafile.objects.all(), request, "facility", "instrument")
    found = rows.values("experiment").annotate(size=Count("pk"), latest=Max("ingested")).order_by("-latest")
    return JsonResponse(
        [
            {"id": row["experiment"], "name": row["experiment"], "type": "experiment", "size": row["size"]}
            for row in found[:_MAX_LIMIT]
        ],
        safe=False,
    )


def not_found(_request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """For every other route."""
    del exception
    return JsonResponse({"message": "There is no such resource."}, status=404)


def server_error(_request: HttpRequest) -> JsonResponse:
    """When something went wrong here."""
    return JsonResponse({"message": "The catalog could not answer; see its log."}, status=500)


def _in_archive(path: str) -> Path:
    """The file of a path in a URL. Raises :class:`NotFound`, also for files that are there, but outside of the archive."""
    location = Path("/" + path.lstrip("/"))
    # One file has one location: not several by way of "..", and none that only a link leads to from outside.
    spelled_well = (
        str(location) == os.path.normpath(location) and len(str(location).encode(errors="replace")) < _MAX_PATH
    )
    inside = spelled_well and any(location.is_relative_to(root) for root in FACILITIES.roots)
    try:
        # RuntimeError: links in a circle; ValueError: NUL.
        if inside and FACILITIES.contains(location) and location.is_file():
            return location
    except (OSError, RuntimeError, ValueError) as error:
        log.warning("path_refused", path=str(location)[:200], detail=str(error)[:200])
    raise NotFound(path=storable(str(location)[:_MAX_PATH]))


def _names_of(location: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Facility, instrument, experiment and run: by where the file lies, else by what is in it."""
    if place := FACILITIES.place_of(location):
        number, experiment = place.run_number, place.experiment
        facility, instrument = place.facility, place.instrument
    else:
        named, number = entry.get("instrument") or {}, None
        facility, instrument = "", str(named.get("short_name") or named.get("name") or "")
        experiment = str(entry.get("experiment_identifier") or "")
    return {
        "facility": facility[:64].upper(),
        "instrument": instrument[:64].upper(),
        "experiment": experiment[:64].upper(),
        "run_number": number if number is not None else _run_number(location.name, entry),
    }


def _run_number(name: str, entry: Mapping[str, Any]) -> int | None:
    match = _RUN_IN_NAME.search(name)
    for text in (str(entry.get("run_number", "")).strip(), match[1] if match else ""):
        if text.isascii() and text.isdecimal() and len(text) <= 10:
            return int(text)
    return None


def _filtered(rows: QuerySet[Any], request: HttpRequest) -> Iterable[Any]:
    rows = _named(rows, request, "facility", "instrument", "experiment")
    if ranges := request.GET.get("ranges_q"):
        rows = rows.filter(_ranges(ranges))
    direction = request.GET.get("sort_direction", request.GET.get("sort_order", "ASCENDING")).upper()
    rows = rows.order_by("-ingested" if direction.startswith("DESC") else "ingested", "pk")
    skip, limit = _bounded(request, "skip", 0, _LARGEST), _bounded(request, "limit", _DEFAULT_LIMIT, _MAX_LIMIT)
    return rows[skip : skip + limit]


def _named(rows: QuerySet[Any], request: HttpRequest, *keys: str) -> QuerySet[Any]:
    for key in keys:
        if value := request.GET.get(key):
            rows = rows.filter(**{key: storable(value).upper()})
    return rows


def _ranges(text: str) -> Q:
    """``indexed.run_number:1-3,7``."""
    field, colon, ranges = text.partition(":")
    if field != "indexed.run_number" or not colon:
        raise BadQuery(detail=f"ranges_q is {text[:60]!r}")
    parts = ranges.split(",")
    if len(parts) > _MAX_RANGES:
        raise BadQuery(detail=f"ranges_q has more than {_MAX_RANGES} ranges")
    wanted = Q()
    for part in parts:
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if match is None:
            raise BadQuery(detail=f"{part[:40]!r} is no range of run numbers")
        wanted |= Q(run_number__range=(int(match[1]), int(match[2] or match[1])))
    return wanted


def _bounded(request: HttpRequest, name: str, default: int, most: int) -> int:
    text = request.GET.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise BadQuery(detail=f"{name} is {text[:20]!r}")
    return min(int(text), most)


def _datafile(entry: Datafile) -> dict[str, Any]:
    return {
        "id": _id(entry.location),
        "type": "datafile",
        "location": entry.location,
        "facility": entry.facility,
        "instrument": entry.instrument,
        "experiment": entry.experiment,
        "ext": entry.ext,
        "tags": list(_TAGS),
        "indexed": {"run_number": entry.run_number},
        "ingested": entry.ingested.isoformat(),
        "metadata": entry.metadata,
    }


def _reduction(entry: Reduction) -> dict[str, Any]:
    return {
        "id": _id(entry.location),
        "type": "reduction",
        "location": entry.location,
        "facility": entry.facility,
        "instrument": entry.instrument,
        "experiment": entry.experiment,
        "indexed": {"run_number": entry.run_number},
        "ingested": entry.ingested.isoformat(),
        **{key: entry.document.get(key) for key in ("input_files", "output_files", "metadata", "created", "user")},
    }


def _projected(entry: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Only the fields named (dots go into nested ones), and id and type."""
    if not wanted:
        return entry
    result: dict[str, Any] = {"id": entry["id"], "type": entry["type"]}
    for name in wanted:
        source, target = entry, result
        *parents, last = name.split(".")
        for parent in parents:
            source = source.get(parent, {}) if isinstance(source, dict) else {}
        if not isinstance(source, dict) or last not in source:
            continue
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = source[last]
    return result


def _id(location: str) -> str:
    """24 hexadecimal digits, the same for a location whenever it is cataloged."""
    return hashlib.sha256(location.encode()).hexdigest()[:24]


def _message(status: int, error: NeutronflowError) -> JsonResponse:
    return JsonResponse({"message": str(error)}, status=status)
