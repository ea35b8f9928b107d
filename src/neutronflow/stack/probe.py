"""``neutronflow probe``: does the running stack work? A small run of a pseudo-instrument goes through all of it.

The run is sent to the translator as the stream service would send one, and followed until it is cataloged, reduced, its
reduction cataloged, and its plot served; then all of it is removed. It is in no list and no statistics, its files lie below
``[core] probe_root``, and it never gets to an external catalog.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
import msgspec

from neutronflow.clients.runsender import Unanswered, send_run
from neutronflow.domain.facility import PROBE, Facilities, RunKey, known_facilities
from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.processing.reduction.shipped import install_script
from neutronflow.stack.datadir import DataDirectory
from neutronflow.stack.errors import NotRunning
from neutronflow.stack.proberun import probe_stream

STAGES: Final = ("translated", "cataloged", "reduced", "reduction_cataloged", "plotted", "total")
#: step -> the stage that it is.
_STEPS: Final = {"catalog_raw": "cataloged", "reduce": "reduced", "catalog_reduced": "reduction_cataloged"}
_ASK_EVERY_S: Final = 0.02
_REMOVE_WITHIN_S: Final = 10.0
#: What a probe that was killed has left goes with a later one.
_LEFT_S: Final = 3600.0


class ProbeFailed(NeutronflowError):
    """The probe failed at '{stage}': {detail}"""

    code = "probe-failed"


class ProbeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the probe is, and where the stack is reached."""

    #: Whose file and experiment names the probe's run has.
    facility: str = "SNS"
    experiment: str = "IPTS-1"
    translator_host: str = "127.0.0.1"
    monitor_url: str = ""
    catalog_url: str = ""
    livedata_url: str = ""


@dataclass(slots=True)
class Stopwatch:
    """Takes the stages' times."""

    began: float
    #: stage -> seconds since the beginning.
    at: dict[str, float]
    #: What the database says that cataloging the reduction took after the reduction: both may be seen at once.
    cataloging_s: float | None = None

    def note(self, stage: str) -> None:
        """This stage is done, for the first time."""
        self.at.setdefault(stage, time.monotonic() - self.began)

    def latencies(self) -> dict[str, float | None]:
        """Milliseconds that each stage took after what it had to wait for; None where it was not reached.

        translated: from the first byte sent to the translator's answer; cataloged, reduced: from there;
        reduction_cataloged, plotted: from the end of the reduction; total: all.
        """
        after = {
            "translated": 0.0,
            "cataloged": self.at.get("translated", 0.0),
            "reduced": self.at.get("translated", 0.0),
            "reduction_cataloged": self.at.get("reduced", 0.0),
            "plotted": self.at.get("reduced", 0.0),
            "total": 0.0,
        }
        took = {stage: max(0.0, self.at[stage] - after[stage]) if stage in self.at else None for stage in STAGES}
        if took["reduction_cataloged"] is not None and self.cataloging_s is not None:
            took["reduction_cataloged"] = self.cataloging_s
        return {stage: None if seconds is None else round(seconds * 1000, 1) for stage, seconds in took.items()}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="give up after S seconds (default 60)")
    parser.add_argument("--keep", action="store_true", help="do not remove the run afterwards")


def run(args: argparse.Namespace) -> int:
    """0: the run went through; 1: it did not."""
    settings = load()
    own = settings.section("probe", ProbeSettings)
    if not own.monitor_url and DataDirectory(settings.data_dir).holder() is None:
        raise NotRunning(path=settings.data_dir)
    known = known_facilities(settings)
    key = known.run_key(own.facility, PROBE, int(time.time()))
    watch = Stopwatch(time.monotonic(), {})
    problem = ""
    with Probe(settings, own, known, key, watch) as probe:
        try:
            probe.go(watch.began + args.timeout)
        except ProbeFailed as error:
            problem = str(error)
        finally:
            left = [] if args.keep else probe.remove()
    result: dict[str, Any] = {"ok": not problem, "run": str(key), **watch.latencies()}
    if problem:
        result["problem"] = problem
    if left:
        result["not_removed"] = left
    _print(result, as_json=args.json)
    return 1 if problem else 0


class Probe:
    """One run through the stack."""

    def __init__(
        self, settings: Settings, own: ProbeSettings, known: Facilities, key: RunKey, watch: Stopwatch
    ) -> None:
        self._known = known
        self._key = key
        self._experiment = known.experiment(own.facility, own.experiment)
        self._watch = watch
        self._translator = (own.translator_host, settings.port("translator"))
        self._monitor = own.monitor_url or f"http://127.0.0.1:{settings.port('monitor')}"
        self._catalog = own.catalog_url or f"http://127.0.0.1:{settings.port('catalog')}"
        self._livedata = own.livedata_url or f"http://127.0.0.1:{settings.port('livedata')}"
        headers = {"Authorization": f"Bearer {settings.secret('service-token')}"}
        self._http = httpx.Client(headers=headers, timeout=10, trust_env=False)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def go(self, deadline: float) -> None:
        """Send the run and follow it. Raises :class:`ProbeFailed`."""
        try:
            install_script(self._known, self._key.facility, PROBE, "reduce_HYS.py")
        except OSError as error:
            raise ProbeFailed(stage="translated", detail=f"its script cannot be written: {error}") from error
        self._watch.began = time.monotonic()
        self._send(deadline)
        self._follow(deadline)

    def _send(self, deadline: float) -> None:
        stream = probe_stream(self._key, self._experiment)
        try:
            with socket.create_connection(
                self._translator, timeout=max(0.1, deadline - time.monotonic())
            ) as connection:
                answer = send_run(connection, stream)
        except (OSError, Unanswered) as error:
            raise ProbeFailed(stage="translated", detail=f"the translator: {error}") from error
        if answer.status:
            raise ProbeFailed(stage="translated", detail=answer.reason)
        self._watch.note("translated")

    def _follow(self, deadline: float) -> None:
        detail = "the monitor does not know the run"
        while time.monotonic() < deadline:
            found = self._run()
            if found is not None:
                detail = self._note(found) or detail
                if "reduced" in self._watch.at and "plotted" not in self._watch.at and self._plotted():
                    self._watch.note("plotted")
                if set(STAGES[:-1]) <= set(self._watch.at):
                    self._watch.note("total")
                    return
            time.sleep(_ASK_EVERY_S)
        missing = next(stage for stage in STAGES if stage not in self._watch.at)
        raise ProbeFailed(stage=missing, detail=f"not in time; {detail}")

    def _note(self, found: Mapping[str, Any]) -> str:
        """Note the stages that a run has reached; what it waits for, in words."""
        waiting = []
        ended = {step["name"]: step["ended_at"] for step in found["steps"]}
        if ended.get("reduce") and ended.get("catalog_reduced"):
            span = datetime.fromisoformat(ended["catalog_reduced"]) - datetime.fromisoformat(ended["reduce"])
            self._watch.cataloging_s = span.total_seconds()
        for step in found["steps"]:
            stage = _STEPS.get(step["name"])
            if stage is None:
                continue
            if step["state"] == "complete":
                self._watch.note(stage)
            elif step["state"] in ("failed", "disabled", "skipped", "not_needed"):
                raise ProbeFailed(stage=stage, detail=step["error"] or f"the step was {step['state']}")
            else:
                waiting.append(f"{step['name']} is {step['state']}")
        return ", ".join(waiting)

    def _run(self) -> Mapping[str, Any] | None:
        try:
            reply = self._http.get(f"{self._monitor}/api/runs/{self._key}")
        except httpx.HTTPError:
            return None
        found: Mapping[str, Any] | None = reply.json() if reply.status_code == httpx.codes.OK else None
        return found

    def _plotted(self) -> bool:
        where = f"{self._livedata}/plots/{PROBE.lower()}/{self._key.run_number}/update/html/"
        try:
            return self._http.get(where).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def remove(self) -> list[str]:
        """Remove all that there is of the run, and what earlier probes have left; what could not be removed, in words."""
        old = self._old()
        left = [complaint for number in (*old, self._key.run_number) for complaint in self._remove(number)]
        for number in old:
            self._remove_files(number)
        try:
            self._remove_files(self._key.run_number)
        except OSError as error:
            left.append(f"files: {error}")
        return left

    def _old(self) -> list[int]:
        """Runs of probes that were killed, by the files that they have left."""
        folder = self._known.nexus_file(self._key, self._experiment).parent
        found = []
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                place = self._known.place_of(path)
                if place is not None and place.run_number is not None and place.run_number < time.time() - _LEFT_S:
                    found.append(place.run_number)
        return found

    def _remove(self, run_number: int) -> list[str]:
        wanted = {
            "catalog": f"{self._catalog}/api/probe/{run_number}",
            "plot": f"{self._livedata}/plots/{PROBE.lower()}/{run_number}/",
            "run": f"{self._monitor}/api/runs/{self._key.facility}/{PROBE}/{run_number}",
        }
        left = []
        for what, url in wanted.items():
            complaint = self._delete(url)
            if complaint:
                left.append(f"{what}: {complaint}")
        return left

    def _delete(self, url: str) -> str:
        try:
            reply = self._http.delete(url)
        except httpx.HTTPError as error:
            return str(error)
        gone = reply.is_success or reply.status_code == httpx.codes.NOT_FOUND
        return "" if gone else f"HTTP {reply.status_code}"

    def _remove_files(self, run_number: int) -> None:
        key = RunKey(self._key.facility, PROBE, run_number)
        self._known.nexus_file(key, self._experiment).unlink(missing_ok=True)
        folder = self._known.reduced_dir(key, self._experiment)
        for path in folder.rglob(f"*{run_number}*") if folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _print(result: Mapping[str, Any], *, as_json: bool, write: Callable[[str], None] = print) -> None:
    if as_json:
        write(json.dumps(result))
        return
    for stage in STAGES:
        took = result[stage]
        write(f"{stage:<20} {'-' if took is None else f'{took:9.1f} ms'}")
    for what in result.get("not_removed", ()):
        write(f"not removed: {what}")
    write(result.get("problem", f"The stack works: {result['run']} went through."))
