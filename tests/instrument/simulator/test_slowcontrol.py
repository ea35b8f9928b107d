"""What the slow-control source sends, beside what the facility's gateway was recorded to send."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from pathlib import Path

from neutronflow.domain.adara.packets import AnyPacket, DeviceDescriptor, Empty, SourceList, VariableValue, decode
from neutronflow.domain.adara.wire import Packet, PacketReader
from neutronflow.instrument.simulator.clients import Clients
from neutronflow.instrument.simulator.slowcontrol import Controls, Heart, Variable, read_forever
from tests.support.postgres import free_port

RECORDED = Path(__file__).parents[2] / "data" / "adara" / "raw_pvsd.adara"
_XML = "{http://public.sns.gov/schema/device.xsd}"


def taken(data: bytes) -> list[tuple[Packet, AnyPacket]]:
    return [(packet, decode(packet)) for packet in PacketReader().feed(data)]


def greeting(found: list[tuple[Packet, AnyPacket]]) -> tuple[list[AnyPacket], dict[tuple[int, int], str]]:
    """The kinds of the packets of a greeting, and the types of the variables that it describes."""
    kinds = {}
    for _, struct in found:
        if isinstance(struct, DeviceDescriptor):
            root = ET.fromstring(struct.xml)
            for variable in root.iter(f"{_XML}process_variable"):
                key = struct.device_id, int(variable.findtext(f"{_XML}pv_id") or "")
                kinds[key] = variable.findtext(f"{_XML}pv_type") or ""
    return [struct for _, struct in found], kinds


def elements(xml: str) -> set[str]:
    """Every path of elements in a descriptor."""
    paths = set()

    def walk(element: ET.Element, at: str) -> None:
        paths.add(at + element.tag)
        for child in element:
            walk(child, f"{at}{element.tag}/")

    walk(ET.fromstring(xml), "")
    return paths


def test_the_greeting_is_in_the_order_of_the_gateway() -> None:
    recorded, recorded_kinds = greeting(taken(RECORDED.read_bytes()))
    controls = Controls("BL11A", 1, lambda _variable: None)
    packets = taken(controls.greeting())
    simulated, kinds = greeting(packets)
    for structs, described in ((recorded, recorded_kinds), (simulated, kinds)):
        assert structs[0] == SourceList(())
        names = [type(struct).__name__ for struct in structs]
        descriptors = names.count("DeviceDescriptor")
        assert names[1 : descriptors + 1] == ["DeviceDescriptor"] * descriptors
        values = structs[descriptors + 1 : descriptors + 1 + len(described)]
        # The last value of every variable, once.
        assert {(one.device_id, one.variable_id) for one in values if isinstance(one, VariableValue)} == set(described)
    assert len(simulated) == 1 + len(controls.devices) + len(kinds)
    # Only after they were described, and of the kind that was described.
    wire = {"double": "double", "string": "string"}
    for struct in simulated:
        if isinstance(struct, VariableValue):
            assert struct.kind == wire.get(kinds[struct.device_id, struct.variable_id], "u32")


def test_descriptors_have_the_elements_of_the_gateway() -> None:
    recorded = {
        path
        for _, struct in taken(RECORDED.read_bytes())
        if isinstance(struct, DeviceDescriptor)
        for path in elements(struct.xml)
    }
    controls = Controls("BL11A", 1, lambda _variable: None)
    simulated = {path for device in controls.devices for path in elements(device.descriptor())}
    assert simulated == recorded
    first = next(struct for _, struct in taken(RECORDED.read_bytes()) if isinstance(struct, DeviceDescriptor))
    # The heartbeat's, character by character.
    assert first == DeviceDescriptor(controls.devices[0].device_id, controls.devices[0].descriptor())


def test_names_are_those_of_epics_with_short_aliases() -> None:
    controls = Controls("BL11A", 1, lambda _variable: None)
    names = {variable.alias: variable.channel for variable in controls.variables()}
    assert names["SampleTemp"] == "BL11A:SE:SampleTemp"
    assert len(set(names.values())) == len(names)


def test_the_sample_follows_its_setpoint_and_there_is_an_alarm_on_the_way() -> None:
    told: list[tuple[str, object, tuple[int, int]]] = []
    controls = Controls("BL11A", 1, lambda variable: told.append((variable.alias, variable.value, variable.alarm)))
    controls.set(controls.setpoint, 350.0)
    controls.read()
    assert ("SampleTempSetpoint", 350.0, (0, 0)) in told
    temperature = next(entry for entry in told if entry[0] == "SampleTemp")
    assert temperature[2] == (6, 1)  # LOW, MINOR
    assert ("HeaterRange", 2, (0, 0)) in told
    controls._last_ns -= 120 * 10**9
    controls.read()
    assert abs(float(controls.temperature.value) - 350.0) < 0.2
    assert controls.temperature.alarm == (0, 0)
    assert told[-3][0] == "HeaterRange"


def test_times_of_one_variable_never_repeat() -> None:
    times: list[int] = []
    controls = Controls("BL11A", 1, lambda variable: times.append(variable.time_ns))
    for value in range(1000):
        controls.set(controls.scan_index, value)
    assert len(set(times)) == 1000
    assert times == sorted(times)


def test_a_client_is_greeted_then_sent_changes_then_heartbeats_when_nothing_changes() -> None:
    async def listen() -> list[AnyPacket]:
        port = free_port()

        def changed(variable: Variable) -> None:
            heart.send(variable.packet())

        controls = Controls("BL11A", 1, changed)
        async with Clients("slow-control source", "127.0.0.1", port, 1 << 20, controls.greeting) as clients:
            heart = Heart(clients, 0.1)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            packets, found = PacketReader(), []

            async def until(count: int) -> None:
                while len(found) < count:
                    found.extend(decode(packet) for packet in packets.feed(await reader.read(1 << 16)))

            greeted = 1 + len(controls.devices) + len(controls.variables())
            await asyncio.wait_for(until(greeted), 5)
            reading = asyncio.create_task(read_forever(controls, 3600.0))
            beating = asyncio.create_task(heart.beat_forever(controls))
            await asyncio.wait_for(until(greeted + 7), 5)
            reading.cancel()
            beating.cancel()
            writer.close()
            return found[greeted:]

    after = asyncio.run(listen())
    assert [one.variable_id for one in after[:3] if isinstance(one, VariableValue)] == [1, 1, 2]
    for heartbeat, value in (after[3:5], after[5:7]):
        assert heartbeat == Empty(data_done=False)
        assert isinstance(value, VariableValue)
        assert value.device_id == value.variable_id == 0xFFFFFFFF
