"""A stream service with recorded sources, a broker and a translator, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from neutronflow.domain.adara.packets import ClientHello, Geometry, PixelMapping, decode, encode
from neutronflow.domain.adara.wire import Packet
from tests.support.sources import DATA, SourceServer, detector_stream, slow_stream
from tests.support.station import Station, eventually, running_station
from tests.support.streams import packets

RUN = {"proposal_id": "IPTS-12345", "run_title": "a run", "users": [{"name": "Jane Doe", "id": "jd1", "role": "PI"}]}


def write_beamline(folder: Path) -> None:
    """The recorded instrument definition and pixel map, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for packet in packets((DATA / "small_sms_run1001.adara").read_bytes()):
        content = decode(packet)
        if isinstance(content, Geometry):
            (folder / "geometry.xml").write_text(content.xml)
        elif isinstance(content, PixelMapping):
            lines = []
            for section in content.sections:
                stop, logical, steps, logical_stop = (int(value) for value in section.values)
                physical_step, logical_step = ((half ^ 0x8000) - 0x8000 for half in (steps >> 16, steps & 0xFFFF))
                words = (f"{section.head[0]}:{stop}:{physical_step}", f"{logical}:{logical_stop}:{logical_step}")
                lines.append(f"{words[0]} {words[1]} {section.head[1] >> 16}")
            (folder / "pixelmap").write_text("# of HYS\n" + "\n".join(lines) + "\n")
            return


class Beamline:
    """What tests do with it."""

    def __init__(self, station: Station, detectors: SourceServer, slow: SourceServer) -> None:
        self.station = station
        self.detectors = detectors
        self.slow = slow
        settings = station.settings
        self.spool = settings.data_dir / "stream" / "spool"
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{settings.port('run_control')}",
            headers={"Authorization": f"Bearer {settings.secret('run-control-token')}"},
            timeout=20,
        )

    def close(self) -> None:
        self._http.close()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._http.get("/api/state").json()
        return found

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self._http.post(path, content=json.dumps(body or {}))

    def start_run(self, **changes: object) -> int:
        # The sources may just be connecting.
        reply = eventually(
            lambda: (r := self.post("/api/run/start", {**RUN, **changes})).status_code == 200 and r, "start"
        )
        return int(reply.json()["run_number"])

    def stop_run(self) -> int:
        reply = self.post("/api/run/stop")
        assert reply.status_code == 200, reply.text
        return int(reply.json()["run_number"])

    def take_pulses(self, count: int) -> None:
        wanted = self.state()["pulses"] + count
        eventually(lambda: self.state()["pulses"] >= wanted, f"{count} more pulses")

    def container(self, run: int) -> Path:
        found: Path = eventually(lambda: list(self.spool.glob(f"*/*-run-{run}")), f"a container of run {run}")[0]
        return found

    def stream_of(self, run: int, *, paused: bool = False) -> list[Packet]:
        """The packets of a run in the spool."""
        files = sorted(self.container(run).glob("*.adara"))
        return packets(b"".join(file.read_bytes() for file in files if paused or "-p" not in file.name))

    def translated(self, run: int, seconds: float = 30.0) -> Path:
        """The NeXus file of a run, once the translator has said that it is there."""
        eventually((self.container(run) / "translation_completed").exists, f"run {run} translated", seconds)
        return self.station.archive / "SNS" / "HYS" / "IPTS-12345" / "nexus" / f"HYS_{run}.nxs.h5"

    @contextlib.contextmanager
    def live(self, start: int, flags: int | None = 0) -> Iterator[Callable[[int], bytes]]:
        """A live client: gives so many more bytes of the stream."""
        port = self.station.settings.port("live_stream")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(encode(ClientHello(start, flags), 0, 0))

            def read(count: int) -> bytes:
                data = b""
                while len(data) < count:
                    piece = connection.recv(count - len(data))
                    if not piece:
                        break
                    data += piece
                return data

            yield read


@contextlib.contextmanager
def beamline(folder: Path, *, translator: bool = True, **settings: str) -> Iterator[Beamline]:
    """A beamline HYS whose sources send what was recorded."""
    own = {
        "NEUTRONFLOW_BEAMLINE__BEAMLINE_ID": "BL14B",
        "NEUTRONFLOW_BEAMLINE__SHORT_NAME": "HYS",
        "NEUTRONFLOW_BEAMLINE__LONG_NAME": "HYSPEC",
        **settings,
    }
    with running_station(folder, **own) as (station, _):
        write_beamline(station.settings.data_dir / "beamline")
        detectors = SourceServer(station.settings.port("detector_source"), detector_stream)
        slow = SourceServer(station.settings.port("slow_control_source"), slow_stream)
        try:
            if translator:
                station.start("translator")
            station.start("stream")
            one = Beamline(station, detectors, slow)
            eventually(lambda: all(source["connected"] for source in one.state()["sources"].values()), "sources")
            time.sleep(0.1)
            try:
                yield one
            finally:
                one.close()
        finally:
            detectors.close()
            slow.close()
