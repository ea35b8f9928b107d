"""What DASMON makes of the recorded stream: the numbers are those of the file that the real translator wrote of it."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from neutronflow.domain.adara.packets import DeviceDescriptor, RunStatus, RunStatusCode, VariableValue, encode
from neutronflow.domain.adara.wire import Packet
from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.domain.messages.combus import MessageType, Sender
from neutronflow.instrument.dasmon.observer import Observer
from neutronflow.instrument.dasmon.settings import DasmonSettings
from tests.support.recorded import SMALL_RUN
from tests.support.sources import DATA
from tests.support.streams import packets

HYS = BeamlineSettings(beamline_id="BL14B", short_name="HYS", long_name="HYSPEC", simulated=False)


@pytest.fixture
def observer() -> Observer:
    one = Observer(DasmonSettings(), HYS, "127.0.0.1", 31415)
    one.connected()
    return one


def recorded() -> list[Packet]:
    return packets((DATA / "small_sms_run1001.adara").read_bytes())


def feed(observer: Observer, stream: list[Packet], piece: int = 50) -> None:
    for at in range(0, len(stream), piece):
        observer.packets(stream[at : at + piece], 1000)


def test_totals_are_those_of_the_translated_file(observer: Observer) -> None:
    feed(observer, recorded())
    totals = observer.metrics.run()
    with h5py.File(SMALL_RUN) as file:
        entry = file["entry"]
        assert int(totals["total_counts"]) == entry["total_counts"][0]
        assert int(totals["total_pulses_count"]) == entry["total_pulses"][0]
        assert float(totals["total_charge"]) == pytest.approx(entry["proton_charge"][0])
        assert float(totals["total_time"]) == pytest.approx(entry["duration"][0], rel=1e-6)


def test_a_stream_that_comes_again_is_not_counted_twice(observer: Observer) -> None:
    stream = recorded()
    feed(observer, stream[:2000])
    observer.lost("it was cut")
    assert observer.told[MessageType.DASMON_CONNECTION]["connected"] == "false"
    observer.connected()
    feed(observer, stream)
    assert observer.metrics.run()["total_counts"] == "171200"


def test_states_are_told_once_and_on_change(observer: Observer) -> None:
    stream = recorded()
    feed(observer, stream[:1500])
    assert observer.told[MessageType.DASMON_RUN_STATUS]["recording"] == "true"
    assert observer.told[MessageType.DASMON_RUN_STATUS]["run_number"] == "1001"
    assert observer.told[MessageType.DASMON_SCAN_STATUS] == {"scanning": "true", "scan_index": "1"}
    info = observer.told[MessageType.DASMON_RUN_INFO]
    assert (info["proposal_id"], info["run_title"], info["sample_formula"]) == ("IPTS-12345", "small run", "V")
    assert observer.told[MessageType.DASMON_BEAM_INFO]["beam_sname"] == "HYS"
    observer.news.clear()
    observer.packets(stream[1500:1510], 1000)
    assert observer.news == set()
    feed(observer, stream[1510:])
    assert observer.told[MessageType.DASMON_RUN_STATUS]["recording"] == "false"
    assert MessageType.DASMON_RUN_STATUS in observer.news


def test_rates_are_means_over_the_last_pulses(observer: Observer) -> None:
    feed(observer, recorded()[:1000])
    beam = observer.metrics.beam()
    assert float(str(beam["pulse_freq"])) == pytest.approx(59.6, abs=0.5)
    assert float(str(beam["count_rate"])) == pytest.approx(200 * 59.6, rel=0.02)
    assert float(str(beam["pulse_charge"])) == pytest.approx(18_470_000)
    assert isinstance(beam["monitors"], dict)
    assert float(beam["monitors"]["1"]) == pytest.approx(5 * 59.6, rel=0.05)


def test_variables_have_their_last_values(observer: Observer) -> None:
    feed(observer, recorded())
    values = {one.name: one for one in observer.variables.changed()}
    with h5py.File(SMALL_RUN) as file:
        assert values["s2"].number == file["entry/DASlogs/s2/value"][-1]
    assert values["s2"].units == "degree"
    assert values["BL14B:CS:Title"].text
    assert values["BL14B:Det:Mode"].text in {"Off", "Low", "High"}
    assert str(values["BL14B:Det:IWave"].text).startswith("[")
    assert "HeartbeatPVSD" not in values
    assert observer.variables.changed() == []


def test_negative_numbers_and_those_that_are_none(observer: Observer) -> None:
    xml = (
        "<device><device_name>d</device_name><process_variables>"
        "<process_variable><pv_name>i</pv_name><pv_id>1</pv_id><pv_type>integer</pv_type></process_variable>"
        "<process_variable><pv_name>f</pv_name><pv_id>2</pv_id><pv_type>double</pv_type></process_variable>"
        "</process_variables></device>"
    )
    data = b"".join(
        encode(one, 1_164_241_405, 0)
        for one in (
            DeviceDescriptor(9, xml),
            VariableValue(9, 1, 0, 0, "u32", 0xFFFFFFFE),
            VariableValue(9, 2, 0, 0, "double", float("nan")),
            VariableValue(9, 3, 0, 0, "u32", 1),
        )
    )
    observer.packets(packets(data), len(data))
    values = {one.name: (one.number, one.text) for one in observer.variables.changed()}
    assert values == {"i": (-2.0, None), "f": (None, "nan")}


def test_what_cannot_be_understood_is_counted_and_the_rest_goes_on(observer: Observer) -> None:
    stream = recorded()
    bad = packets(encode(DeviceDescriptor(7, "<device><unclosed></device>"), 1_164_241_405, 0))
    short = [Packet(0x4000, 1, stream[0].seconds, 0, memoryview(b"\0" * 8), 0)]
    unknown = [Packet(0x7777, 1, stream[0].seconds, 0, memoryview(b""), 0)]
    observer.packets([*bad, *short, *unknown], 100)
    feed(observer, stream)
    assert observer.metrics.run()["total_counts"] == "171200"
    assert (observer.metrics.stream()["ddp_xml"], observer.metrics.stream()["inv_pkt"]) == ("1", "1")


def test_a_new_run_is_counted_from_nothing(observer: Observer) -> None:
    stream = recorded()
    feed(observer, stream)
    data = encode(RunStatus(1002, 1_164_241_500, RunStatusCode.NEW_RUN, 0x1001), 1_164_241_500, 0)
    observer.packets(packets(data), len(data))
    assert observer.metrics.run()["total_counts"] == "0"
    assert observer.told[MessageType.DASMON_RUN_STATUS]["run_number"] == "1002"


def test_messages_are_text_throughout(observer: Observer) -> None:
    feed(observer, recorded()[:1000])
    sender = Sender("SNS", "HYS", "DASMON")
    message = sender.broadcast("APP", MessageType.DASMON_BEAM_METRICS, observer.metrics.beam())
    body = json.loads(message.body)
    assert message.destination.name == "SNS.HYS.APP.DASMON"
    assert body["msg_type"] == str(0xA0C00006)
    assert all(isinstance(value, str) for key, value in body.items() if key != "monitors")
    assert all(isinstance(value, str) for value in body["monitors"].values())
    assert np.isfinite(float(body["count_rate"]))
