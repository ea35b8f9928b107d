"""The reader and the writer against streams of the real programs, and against what the C++ parser said of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from neutronflow.domain.adara.packets import (
    BankedEvents,
    ClientHello,
    MonitorEvents,
    RunStatus,
    RunStatusCode,
    SourceList,
    decode,
    encode,
)
from neutronflow.domain.adara.wire import Packet, PacketReader, PacketType
from tests.support.adaradump import blocks, dump

DATA = Path(__file__).parents[2] / "data" / "adara"
STREAMS = ("small_sms_run1001", "histo_sms", "raw_gen", "raw_pvsd", "small_stc_reply")
EVENTS = (PacketType.RTDL, PacketType.BEAM_MONITOR_EVENT, PacketType.BANKED_EVENT)


def packets(name: str) -> list[Packet]:
    reader = PacketReader()
    found = list(reader.feed((DATA / f"{name}.adara").read_bytes()))
    reader.finish()
    return found


def printed(name: str, what: str) -> list[list[str]]:
    """The packets as the C++ parser printed them."""
    return blocks(gzip.open(DATA / f"{name}.{what}.txt.gz", "rt").read().split("\n"))


def ours(found: list[Packet]) -> list[list[str]]:
    return blocks([line for packet in found for line in dump(packet)])


@pytest.mark.parametrize("name", STREAMS)
def test_every_recorded_packet_is_written_byte_for_byte_as_it_was_read(name: str) -> None:
    data = (DATA / f"{name}.adara").read_bytes()
    written = b"".join(encode(decode(packet), packet.seconds, packet.nanoseconds) for packet in packets(name))
    assert written == data


def test_every_packet_is_read_as_the_cpp_parser_reads_it() -> None:
    found = packets("small_sms_run1001")
    mine, theirs = ours(found), printed("small_sms_run1001", "packets")
    assert [block[0] for block in mine] == [block[0] for block in theirs]
    # This dump was made without events; those are compared in the next test.
    quiet = [i for i, packet in enumerate(found) if packet.base not in EVENTS]
    assert [mine[i] for i in quiet] == [theirs[i] for i in quiet]


def test_every_event_is_read_as_the_cpp_parser_reads_it() -> None:
    found = [packet for packet in packets("small_sms_run1001") if packet.base in EVENTS]
    names = ("RTDL", "BEAM MONITOR DATA", "BANKED EVENT DATA")
    theirs = [block for block in printed("small_sms_run1001", "events") if block[0].split(" ", 1)[1].startswith(names)]
    assert len(found) == 3 * 856
    mine = ours(found)
    # One by one: pytest would take minutes to show the difference of 240,000 lines.
    assert [i for i, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other] == []


def test_slow_controls_are_read_as_the_cpp_parser_reads_them() -> None:
    found = packets("raw_pvsd")
    assert decode(found[0]) == SourceList(())  # the greeting, which that parser does not print
    assert ours(found[1:]) == printed("raw_pvsd", "packets")


def test_the_recorded_run_has_the_events_it_is_said_to_have() -> None:
    structs = [decode(packet) for packet in packets("small_sms_run1001")]
    banked = [struct for struct in structs if isinstance(struct, BankedEvents)]
    monitors = [struct for struct in structs if isinstance(struct, MonitorEvents)]
    assert sum(len(bank.tof) for pulse in banked for source in pulse.sources for bank in source.banks) == 171_200
    assert sum(len(monitor.events) for pulse in monitors for monitor in pulse.monitors) == 12_840
    statuses = [struct.status for struct in structs if isinstance(struct, RunStatus)]
    assert statuses == [RunStatusCode.NEW_RUN, RunStatusCode.RUN_EOF, RunStatusCode.RUN_BOF, RunStatusCode.END_RUN]


def test_published_bytes_of_a_client_hello_are_understood() -> None:
    data = bytes.fromhex("04000000 00064000 00000000 00000000 01000000")
    (packet,) = PacketReader().feed(data)
    assert decode(packet) == ClientHello(start=1, flags=None)
    assert encode(ClientHello(start=1, flags=None), 0, 0) == data


def test_the_end_of_a_published_run_is_understood() -> None:
    words = np.array([44635, 1117010897, 0x042E1001, 0, 0], "<u4")
    status = decode(Packet(PacketType.RUN_STATUS, 1, 0, 0, memoryview(words.tobytes()), 0))
    assert isinstance(status, RunStatus)
    assert (status.run_number, status.status, status.mode_index, status.file_index) == (44635, 4, 737, 1)
