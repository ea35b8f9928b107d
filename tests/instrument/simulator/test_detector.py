"""What the detector source sends, beside what the facility's generator was recorded to send."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest

from neutronflow.domain.adara.packets import RawEvents, Rtdl, decode
from neutronflow.domain.adara.wire import Packet, PacketReader
from neutronflow.instrument.simulator.clients import Clients
from neutronflow.instrument.simulator.detector import DetectorSource, Packer, WallClock
from neutronflow.instrument.simulator.pulses import Generator, Pulse, pulse_id, pulse_number
from neutronflow.instrument.simulator.settings import SimulatorSettings
from tests.support.postgres import free_port

GENERATED = Path(__file__).parents[2] / "data" / "adara" / "raw_gen.adara"
#: 2026-11-25, as a pulse number: cycle 580 of 600, so that the cycle begins anew in the test.
FIRST = 1_164_240_000 * 60 + 580


def taken(data: bytes) -> list[tuple[Packet, RawEvents | Rtdl]]:
    found = []
    for packet in PacketReader().feed(data):
        struct = decode(packet)
        assert isinstance(struct, RawEvents | Rtdl)
        found.append((packet, struct))
    return found


@pytest.fixture(scope="module")
def recorded() -> list[tuple[Packet, RawEvents | Rtdl]]:
    found = taken(GENERATED.read_bytes())
    # The recording ends inside of a pulse.
    last = found[-1][0].pulse_id
    return [pair for pair in found if pair[0].pulse_id != last]


@pytest.fixture(scope="module")
def pulses() -> list[Pulse]:
    # So many events that a pulse needs several packets.
    generator = Generator(SimulatorSettings(events_per_s=150_000.0))
    return [generator.pulse(number) for number in range(FIRST, FIRST + 60)]


@pytest.fixture(scope="module")
def simulated(pulses: list[Pulse]) -> list[tuple[Packet, RawEvents | Rtdl]]:
    packer, before, parts = Packer(), 1, []
    for pulse in pulses:
        parts.append(packer.packets(pulse, before, pulse.number - 1))
        before = pulse.charge_10pc
    return taken(b"".join(parts))


def by_pulse(found: list[tuple[Packet, RawEvents | Rtdl]]) -> Iterator[tuple[int, list[RawEvents | Rtdl]]]:
    for identity, group in groupby(found, key=lambda pair: pair[0].pulse_id):
        yield identity, [struct for _, struct in group]


@pytest.mark.parametrize("stream", ["recorded", "simulated"])
def test_a_pulse_is_an_rtdl_then_raw_events_until_the_end_of_pulse(stream: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(stream)
    for _, structs in by_pulse(found):
        rtdl, *events = structs
        assert isinstance(rtdl, Rtdl)
        assert all(isinstance(one, RawEvents) and not one.mapped for one in events)
        assert [one.end_of_pulse for one in events] == [False] * (len(events) - 1) + [True]
        assert [one.pulse_sequence for one in events] == list(range(len(events)))
        assert all(one.timing == rtdl.timing for one in events)


@pytest.mark.parametrize("stream", ["recorded", "simulated"])
def test_sequence_cycle_and_time_go_on_from_pulse_to_pulse(stream: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(stream)
    # The generator counts every packet, RTDL as well.
    for number, (_, struct) in enumerate(found):
        if isinstance(struct, RawEvents):
            assert struct.source_sequence == number & 0xFFFF
    assert all(packet.version == 1 for packet, _ in found)
    assert all(16 + len(packet.payload) <= 8192 for packet, _ in found)
    rtdl = [(packet, struct) for packet, struct in found if isinstance(struct, Rtdl)]
    for (before, first), (after, second) in pairwise(rtdl):
        assert second.timing.cycle == (first.timing.cycle + 1) % 600
        assert abs(second.timing.intra_pulse_100ns - (after.time_ns - before.time_ns) / 100) <= 1
    if stream == "simulated":
        assert {struct.timing.cycle for _, struct in rtdl} >= {599, 0}


def test_fields_that_never_change_are_those_of_the_generator(
    recorded: list[tuple[Packet, RawEvents | Rtdl]], simulated: list[tuple[Packet, RawEvents | Rtdl]]
) -> None:
    def fixed(found: list[tuple[Packet, RawEvents | Rtdl]]) -> set[object]:
        kept = set()
        for packet, struct in found:
            timing = dataclasses.replace(struct.timing, charge_10pc=0, cycle=0, intra_pulse_100ns=0)
            own = (
                (struct.ring_period_ps, struct.frames)
                if isinstance(struct, Rtdl)
                else (struct.source_id, struct.mapped)
            )
            kept.add((packet.base, packet.version, timing, own))
        return kept

    assert fixed(simulated) == fixed(recorded)


def test_events_come_as_chopper_monitors_detectors_with_the_words_of_the_generator(
    recorded: list[tuple[Packet, RawEvents | Rtdl]], simulated: list[tuple[Packet, RawEvents | Rtdl]]
) -> None:
    for found in (recorded, simulated):
        for _, structs in by_pulse(found):
            pixel = np.concatenate([one.pixel for one in structs if isinstance(one, RawEvents)])
            kinds = pixel >> 28
            order = [kind for kind, _ in groupby(kinds.tolist())]
            assert order == [7, 4, 0] or (order == [7] and not structs[0].timing.flavour)
            assert pixel[kinds == 7].tolist() == [0x70000001]
            monitors = pixel[kinds == 4]
            assert ((monitors & 0xFFFF) == 1).all()
            assert np.array_equal(np.sort(monitors), monitors)


def test_charge_describes_the_pulse_before(
    pulses: list[Pulse], simulated: list[tuple[Packet, RawEvents | Rtdl]]
) -> None:
    charges = [structs[0].timing.charge_10pc for _, structs in by_pulse(simulated)]
    assert charges == [1, *(pulse.charge_10pc for pulse in pulses[:-1])]
    assert len(set(charges)) > 50


@pytest.mark.parametrize("stream", ["recorded", "simulated"])
def test_the_first_pulse_of_a_cycle_is_without_beam_and_the_next_one_says_so_by_its_charge(
    stream: str, request: pytest.FixtureRequest
) -> None:
    timings = [structs[0].timing for _, structs in by_pulse(request.getfixturevalue(stream))]
    assert {timing.cycle for timing in timings if not timing.flavour} == {0}
    assert {timing.cycle for timing in timings if not timing.charge_10pc} == {1}


def test_what_is_sent_is_what_was_drawn(pulses: list[Pulse], simulated: list[tuple[Packet, RawEvents | Rtdl]]) -> None:
    for pulse, (identity, structs) in zip(pulses, by_pulse(simulated), strict=True):
        assert identity == pulse_id(pulse.number)
        events = [one for one in structs if isinstance(one, RawEvents)]
        assert len(events) > 1 or not pulse.charge_10pc
        tof, pixel = (np.concatenate([getattr(one, name) for one in events]) for name in ("tof", "pixel"))
        detector = pixel >> 28 == 0
        assert np.array_equal(tof[detector], pulse.tof)
        assert np.array_equal(pixel[detector], pulse.pixel)
        for monitor, times in pulse.monitors.items():
            assert np.array_equal(tof[pixel == (0x40000001 | monitor << 16)], times)


def test_the_source_sequence_wraps_at_16_bits(pulses: list[Pulse]) -> None:
    packer = Packer()
    packer._sequence = 0xFFFE
    sequences = [
        struct.source_sequence
        for _, struct in taken(packer.packets(pulses[0], 1, pulses[0].number - 1))
        if isinstance(struct, RawEvents)
    ]
    assert sequences[:2] == [0xFFFF, 0]


def read_some(port: int, seconds: float) -> bytes:
    data = bytearray()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(5.0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data += client.recv(1 << 16)
    return bytes(data)


def test_a_client_is_sent_60_pulses_a_second_from_the_beginning_of_a_pulse() -> None:
    drawn: list[Pulse] = []

    async def listen() -> bytes:
        port = free_port()
        async with Clients("detector source", "127.0.0.1", port, 1 << 24) as clients:
            source = DetectorSource(Generator(SimulatorSettings(events_per_s=5_000.0)), clients, drawn.append)
            running = asyncio.create_task(source.run())
            data = await asyncio.to_thread(read_some, port, 1.0)
            running.cancel()
            return data

    found = list(by_pulse(taken(asyncio.run(listen()))))
    assert 50 <= len(found) <= 70
    assert [identity for identity, _ in found] == [pulse_id(pulse.number) for pulse in drawn][: len(found)]
    assert isinstance(found[0][1][0], Rtdl)
    numbers = [pulse.number for pulse in drawn]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class Stalled(WallClock):
    """A clock of a machine that stands still for ten seconds once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def now(self) -> int:
        self.asked += 1
        return super().now() + (10_000_000_000 if self.asked > 20 else 0)


def test_after_a_standstill_pulses_are_left_out_and_not_sent_in_a_burst() -> None:
    drawn: list[Pulse] = []

    async def listen() -> int:
        port = free_port()
        async with Clients("detector source", "127.0.0.1", port, 1 << 24) as clients:
            source = DetectorSource(
                Generator(SimulatorSettings(events_per_s=100.0)), clients, drawn.append, clock=Stalled()
            )
            running = asyncio.create_task(source.run())
            await asyncio.to_thread(read_some, port, 1.0)
            running.cancel()
            return source.missed

    missed = asyncio.run(listen())
    assert 595 <= missed <= 605
    numbers = [pulse.number for pulse in drawn]
    steps = [after - before for before, after in pairwise(numbers)]
    assert sorted(steps)[-1] == missed + 1
    assert set(steps) <= {1, missed + 1}


def test_a_client_that_does_not_read_is_dropped_and_others_go_on() -> None:
    async def flood() -> tuple[int, int, bytes]:
        port = free_port()
        async with Clients("detector source", "127.0.0.1", port, 1 << 16) as clients:
            _, lazy = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            reader, keen = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            while len(clients) < 2:  # noqa: ASYNC110 - there is nothing that would tell
                await asyncio.sleep(0.001)
            got = bytearray()
            for _ in range(2000):
                clients.send(bytes(8192))
                got += await reader.readexactly(8192)
            found = len(clients), clients.dropped, bytes(got[-4:])
            lazy.close()
            keen.close()
            return found

    left, dropped, last = asyncio.run(flood())
    assert (left, dropped, last) == (1, 1, bytes(4))


def test_the_clock_never_goes_back_and_follows_a_jump_forward() -> None:
    wall, steady = [2_000_000_000 * 10**9], [0]
    clock = WallClock(lambda: wall[0], lambda: steady[0])
    begin = clock.now()
    wall[0] -= 3600 * 10**9
    steady[0] += 10**9
    assert clock.now() == begin + 10**9
    wall[0] += 7200 * 10**9
    assert clock.now() == begin + 3600 * 10**9
    assert pulse_number(clock.now()) > 0
