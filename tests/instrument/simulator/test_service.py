"""The simulator as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neutronflow.domain.adara.packets import DeviceDescriptor, RawEvents, SourceList, VariableValue, decode
from neutronflow.domain.adara.wire import PacketReader
from neutronflow.foundation.config import PORTS
from neutronflow.instrument.simulator.pulses import Generator, pulse_number
from neutronflow.instrument.simulator.record import read_pulses, read_variables
from neutronflow.instrument.simulator.settings import SimulatorSettings
from tests.support.ports import free_offset


def environment(folder: Path, **changes: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("NEUTRONFLOW_")},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "NEUTRONFLOW_DATA_DIR": str(folder),
        "NEUTRONFLOW_SECRET_RUN_CONTROL_TOKEN": "secret",
        **changes,
    }


class Simulator:
    def __init__(self, folder: Path, **changes: str) -> None:
        self.offset = free_offset()
        self.folder = folder
        changes = {"NEUTRONFLOW_PORT_OFFSET": str(self.offset), **changes}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")
            ready.settimeout(20)
            environ = environment(folder, NOTIFY_SOCKET="@" + ready.getsockname()[1:].decode(), **changes)
            self.process = subprocess.Popen([sys.executable, "-m", "neutronflow.cli", "simulator"], env=environ)
            while b"READY=1" not in ready.recv(4096):
                pass

    def read(self, source: str, enough: Callable[[bytes], bool]) -> bytes:
        data = bytearray()
        with socket.create_connection(("127.0.0.1", PORTS[source] + self.offset)) as client:
            client.settimeout(10)
            while not enough(bytes(data)):
                data += client.recv(1 << 16)
        return bytes(data)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


def test_it_sends_both_streams_keeps_a_record_and_ends_well(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path, NEUTRONFLOW_SIMULATOR__SEED="11", NEUTRONFLOW_SIMULATOR__VARIABLES_EVERY_S="0.1")
    try:
        assert (tmp_path / "beamline" / "geometry.xml").exists()
        raw = simulator.read("detector_source", lambda data: len(data) > 300_000)
        slow = simulator.read("slow_control_source", lambda data: len(data) > 7_000)
    finally:
        # Killed, it leaves the record of all that it has sent.
        assert simulator.stop(signal.SIGKILL) == -signal.SIGKILL
    greeting = [decode(packet) for packet in PacketReader().feed(slow)]
    assert greeting[0] == SourceList(())
    assert isinstance(greeting[1], DeviceDescriptor)
    packets = [(packet, decode(packet)) for packet in PacketReader().feed(raw)]
    whole = [(packet, one) for packet, one in packets if isinstance(one, RawEvents) and one.end_of_pulse]
    rows = read_pulses(tmp_path / "simulator" / "records", whole[0][0].pulse_id, whole[-1][0].pulse_id)
    assert rows["pulse_id"].tolist() == [packet.pulse_id for packet, _ in whole]
    generator = Generator(SimulatorSettings(seed=11))
    for row, (packet, events) in zip(rows, whole, strict=True):
        assert row["banks"].sum() == (events.pixel >> 28 == 0).sum()
        # And it can be drawn again.
        again = generator.pulse(pulse_number(packet.seconds * 10**9 + packet.nanoseconds))
        assert np.array_equal(again.tof, events.tof[events.pixel >> 28 == 0])
        assert row["charge_10pc"] == again.charge_10pc
    recorded = {
        (reading.time_ns, reading.value)
        for reading in read_variables(tmp_path / "simulator" / "records", time.time_ns() - 10**11, time.time_ns())
    }
    live = [
        (packet.time_ns, value.value)
        for packet in PacketReader().feed(slow)
        if isinstance(value := decode(packet), VariableValue) and value.variable_id == 1 and value.device_id == 1
    ]
    assert set(live) <= recorded


def test_it_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    assert simulator.stop() == 0


def test_ports_that_are_taken_are_an_error_that_says_so(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    try:
        again = subprocess.run(
            [sys.executable, "-m", "neutronflow.cli", "simulator"],
            env=environment(tmp_path, NEUTRONFLOW_PORT_OFFSET=str(simulator.offset)),
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    finally:
        simulator.stop()
    assert again.returncode == 2
    assert "the simulator's detector source cannot listen" in again.stderr.lower()


def test_a_client_that_goes_and_comes_again_is_sent_pulses_again(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    try:
        for _ in range(3):
            raw = simulator.read("detector_source", lambda data: len(data) > 50_000)
            first = next(iter(PacketReader().feed(raw)))
            assert first.base == 1
    finally:
        assert simulator.stop() == 0


def test_prepare_writes_the_beamlines_files_and_ends(tmp_path: Path) -> None:
    def prepare(**changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "neutronflow.cli", "simulator", "--prepare"],
            env=environment(tmp_path, **changes), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    first, second = prepare(), prepare()
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.count("Wrote") == 2
    assert second.stdout == ""
    refused = prepare(NEUTRONFLOW_BEAMLINE__SIMULATED="false")
    assert refused.returncode == 2
    assert "not a simulated one" in refused.stderr


@pytest.mark.slow
def test_50_000_events_a_second_cost_little(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    try:
        begin, cpu = time.monotonic(), _cpu_s(simulator.process.pid)
        end = begin + 20.0
        simulator.read("detector_source", lambda _data: time.monotonic() > end)
        share = (_cpu_s(simulator.process.pid) - cpu) / (time.monotonic() - begin)
    finally:
        simulator.stop()
    assert share < 0.15


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
