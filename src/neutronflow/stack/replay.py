"""``neutronflow replay``: send a recorded stream to the translator, as the stream service would, and wait for the plot.

It ends well only when the run page, the catalog entry, the reduced data and the plot can be fetched.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from neutronflow.clients.runsender import read_answer
from neutronflow.domain.adara.packets import BeamlineInfo, RunInfo, RunStatus, TranslationComplete, decode
from neutronflow.domain.adara.wire import PacketReader, PacketType
from neutronflow.domain.facility import known_facilities
from neutronflow.foundation.config import Settings, load
from neutronflow.foundation.errors import NeutronflowError
from neutronflow.stack.datadir import DataDirectory
from neutronflow.stack.errors import NotRunning

#: How much is sent in one go; small enough that ``--speed`` is smooth, large enough to be fast without it.
_CHUNK_BYTES = 1 << 20
_PULSE_TYPES = (PacketType.BANKED_EVENT, PacketType.BANKED_EVENT_STATE)


class ReplayFailed(NeutronflowError):
    """The replay of {file} failed: {detail}."""

    code = "replay-failed"


class StackUnreachable(NeutronflowError):
    """{what} at {where} cannot be reached ({detail}). Does the stack run with the same NEUTRONFLOW_* settings, NEUTRONFLOW_PORT_OFFSET among them?"""  # noqa: E501

    code = "stack-unreachable"


class AnotherStack(NeutronflowError):
    """The web monitor at {where} does not take this data directory's service token: another stack runs there."""

    code = "another-stack"


class ReplaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to reach the running stack, when it is not on this machine's port table."""

    translator_host: str = "127.0.0.1"
    monitor_url: str = ""
    catalog_url: str = ""
    livedata_url: str = ""


@dataclass(slots=True)
class Recording:
    """What a recorded stream says of itself, and when each part of it is due.

    ``marks`` are (byte offset, seconds after the first pulse) at the beginning of each pulse.
    """

    path: Path
    facility: str = ""
    instrument: str = ""
    experiment: str = ""
    run_number: int = 0
    marks: list[tuple[int, float]] = field(default_factory=list)


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("file", type=Path, metavar="FILE.adara", help="the recorded stream of one run")
    parser.add_argument(
        "--speed", type=float, default=0.0, metavar="N", help="N times as fast as recorded (default: at once)"
    )
    parser.add_argument("--no-wait", action="store_true", help="end when the translator has answered")
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="S", help="give up after S seconds (default 180)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Replay one recording. 0: all of it can be fetched; 1: it came to an end that is not that; 2: it could not be sent."""
    settings = load()
    recording = inspect(args.file)
    own = settings.section("replay", ReplaySettings)
    data = DataDirectory(settings.data_dir)
    if not own.monitor_url and data.holder() is None:
        raise NotRunning(path=data.path)
    deadline = time.monotonic() + args.timeout
    say = _say_nothing if args.json else _say
    stack = StackClient(settings, recording)
    with stack:
        before = stack.cycle()
        say(f"{recording.facility}/{recording.instrument} run {recording.run_number}: sending {args.file.name}")
        started = time.monotonic()
        answer = send_until_answered(settings, recording, args.speed, deadline, say)
        result: dict[str, Any] = {
            "run": stack.name,
            "sent_s": round(time.monotonic() - started, 3),
            "reply": answer.reason,
        }
        if answer.status != 0:
            raise ReplayFailed(file=args.file, detail=f"the translator refused it: {answer.reason}")
        say(f"translated: {answer.reason}")
        code = 0
        if not args.no_wait:
            translated = time.monotonic()
            result |= stack.wait(before, deadline, say)
            result["translated_to_served_s"] = round(time.monotonic() - translated, 3)
            code = 0 if result["state"] == "complete" and result["fetched"] else 1
    if args.json:
        print(json.dumps(result))
    else:
        say("done" if code == 0 else f"ended as {result['state']}: {result.get('problem', '')}")
    return code


def inspect(path: Path) -> Recording:
    """Read what a recording says of itself. Raises :class:`ReplayFailed` where it is no stream of one run."""
    recording = Recording(path)
    reader = PacketReader()
    first_ns: int | None = None
    try:
        with path.open("rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                for packet in reader.feed(chunk):
                    if packet.base in _PULSE_TYPES:
                        first_ns = packet.time_ns if first_ns is None else first_ns
                        recording.marks.append((packet.offset, max(0.0, (packet.time_ns - first_ns) / 1e9)))
                    elif packet.base in (PacketType.RUN_INFO, PacketType.BEAMLINE_INFO, PacketType.RUN_STATUS):
                        _note(recording, decode(packet))
    except OSError as error:
        raise ReplayFailed(file=path, detail=error.strerror or str(error)) from error
    if not (recording.run_number and recording.facility and recording.instrument):
        raise ReplayFailed(file=path, detail="it names no run, facility or instrument")
    return recording


def _note(recording: Recording, packet: object) -> None:
    if isinstance(packet, RunStatus) and packet.run_number:
        recording.run_number = packet.run_number
    elif isinstance(packet, BeamlineInfo):
        recording.instrument = packet.short_name.upper()
    elif isinstance(packet, RunInfo):
        recording.facility = (packet.text("facility_name") or "").upper()
        recording.experiment = (packet.text("proposal_id") or "").upper()


def send_until_answered(
    settings: Settings, recording: Recording, speed: float, deadline: float, say: Any
) -> TranslationComplete:
    """Send the recording; where the connection breaks, again from the start, until the translator has answered."""
    pause = 0.2
    while True:
        try:
            return _send_once(settings, recording, speed, deadline)
        except OSError as error:
            if time.monotonic() + pause > deadline:
                host, port = _translator(settings)
                raise StackUnreachable(what="The translator", where=f"{host}:{port}", detail=error) from error
            say(f"the connection to the translator broke ({error}); again from the start")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def _translator(settings: Settings) -> tuple[str, int]:
    return settings.section("replay", ReplaySettings).translator_host, settings.port("translator")


def _send_once(settings: Settings, recording: Recording, speed: float, deadline: float) -> TranslationComplete:
    with socket.create_connection(_translator(settings), timeout=10) as connection:
        connection.settimeout(max(1.0, deadline - time.monotonic()))
        started = time.monotonic()
        try:
            with recording.path.open("rb") as stream:
                for size, due_s in _pieces(recording, speed):
                    time.sleep(max(0.0, started + due_s - time.monotonic()))
                    connection.sendall(stream.read(size))
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            # The translator may have refused the stream before its end: its answer says why, if there is one.
            return read_answer(connection)
        return read_answer(connection)


def _pieces(recording: Recording, speed: float) -> Iterator[tuple[int, float]]:
    """(bytes, seconds after the start at which they are due), over the whole file."""
    size = recording.path.stat().st_size
    if speed <= 0:
        yield from ((min(_CHUNK_BYTES, size - at), 0.0) for at in range(0, size, _CHUNK_BYTES))
        return
    last = 0
    for offset, seconds in recording.marks:
        if offset > last:
            yield offset - last, seconds / speed
            last = offset
    yield size - last, 0.0


class StackClient:
    """Reads of the running stack what became of one run, with the service token."""

    def __init__(self, settings: Settings, recording: Recording) -> None:
        known = known_facilities(settings)
        self._key = known.run_key(recording.facility, recording.instrument, recording.run_number)
        own = settings.section("replay", ReplaySettings)
        self._monitor = own.monitor_url or f"http://127.0.0.1:{settings.port('monitor')}"
        self._catalog = own.catalog_url or f"http://127.0.0.1:{settings.port('catalog')}"
        self._livedata = own.livedata_url or f"http://127.0.0.1:{settings.port('livedata')}"
        headers = {"Authorization": f"Bearer {settings.secret('service-token')}"}
        self._http = httpx.Client(headers=headers, timeout=10, follow_redirects=False)
        self.name = str(self._key)

    def __enter__(self) -> StackClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def cycle(self) -> int:
        """How often this run has been through the pipeline, 0 for a run that is not known yet."""
        found = self._run()
        return int(found["cycle"]) if found else 0

    def wait(self, before: int, deadline: float, say: Any) -> dict[str, Any]:
        """Wait until a newer cycle has ended and all of it can be fetched. Returns state, problem, and what was fetched."""
        seen: dict[str, str] = {}
        problem = "nothing was heard of the run"
        while time.monotonic() < deadline:
            found = self._run(patient=True)
            if found and found["cycle"] > before:
                _tell(found, seen, say)
                if found["state"] == "failed":
                    return {"state": "failed", "fetched": False, "problem": _failure(found)}
                problem = f"the run is still {found['state']}"
                if found["state"] == "complete":
                    missing = self._missing(found)
                    if not missing:
                        return {"state": "complete", "fetched": True}
                    problem = f"not there: {', '.join(missing)}"
            time.sleep(0.1)
        return {"state": "timeout", "fetched": False, "problem": problem}

    def _run(self, *, patient: bool = False) -> Mapping[str, Any] | None:
        where = f"{self._monitor}/api/runs/{self.name}"
        try:
            reply = self._http.get(where)
            if reply.status_code == httpx.codes.NOT_FOUND:
                return None
            if reply.status_code == httpx.codes.UNAUTHORIZED:
                raise AnotherStack(where=self._monitor)
            reply.raise_for_status()
        except httpx.HTTPError as error:
            if patient:
                return None
            raise StackUnreachable(what="The web monitor", where=where, detail=error) from error
        found: Mapping[str, Any] = reply.json()
        return found

    def _missing(self, found: Mapping[str, Any]) -> list[str]:
        """What of a complete run cannot be fetched (yet)."""
        key = self._key
        query = f"facility={key.facility}&instrument={key.instrument}&ranges_q=indexed.run_number:{key.run_number}"
        reduced = [file["url"] for file in found["files"] if file["kind"] == "reduced"]
        wanted = {
            "run page": f"{self._monitor}{found['page_url']}",
            "plot": f"{self._livedata}/plots/{key.instrument.lower()}/{key.run_number}/update/html/",
            **{f"reduced file {url.rsplit('/', 1)[-1]}": f"{self._monitor}{url}" for url in reduced},
        }
        missing = [what for what, url in wanted.items() if not self._fetched(url)]
        if not reduced:
            missing.append("a reduced file")
        if not self._cataloged(f"{self._catalog}/api/datafiles?{query}&projection=location", found["data_file"]):
            missing.append("catalog entry")
        return missing

    def _fetched(self, url: str) -> bool:
        try:
            return self._http.get(url).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _cataloged(self, url: str, location: str) -> bool:
        try:
            reply = self._http.get(url)
        except httpx.HTTPError:
            return False
        return reply.status_code == httpx.codes.OK and any(entry.get("location") == location for entry in reply.json())


def _tell(found: Mapping[str, Any], seen: dict[str, str], say: Any) -> None:
    """Say what has changed of the current attempts."""
    for step in found["steps"]:
        if seen.get(step["name"]) != step["state"]:
            seen[step["name"]] = step["state"]
            say(f"  {step['name']}: {step['state']}" + (f" ({step['agent']})" if step["agent"] else ""))


def _failure(found: Mapping[str, Any]) -> str:
    return "; ".join(f"{step['name']}: {step['error']}" for step in found["steps"] if step["state"] == "failed")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_nothing(_text: str) -> None:
    """Where the output is JSON."""
