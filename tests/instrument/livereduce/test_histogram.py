"""Live pictures of the recorded run."""

from __future__ import annotations

import json

import h5py
import numpy as np

from neutronflow.domain.adara.wire import Packet
from neutronflow.instrument.livereduce.figure import picture_json
from neutronflow.instrument.livereduce.histogram import LiveHistogram
from tests.support.recorded import SMALL_RUN
from tests.support.sources import DATA
from tests.support.streams import packets


def recorded() -> list[Packet]:
    return packets((DATA / "small_sms_run1001.adara").read_bytes())


def test_the_histogram_is_that_of_the_translated_file() -> None:
    live = LiveHistogram(33_333.0, 500)
    live.connected()
    stream = recorded()
    # Up to, not with, the end of the run.
    for at in range(0, len(stream) - 2, 37):
        live.packets(stream[at : min(at + 37, len(stream) - 2)], 1)
    picture = live.picture()
    assert picture is not None
    assert (picture.run_number, picture.title, picture.simulated) == (1001, "small run", False)
    assert (picture.total, picture.pulses) == (171_200, 856)
    with h5py.File(SMALL_RUN) as file:
        banks = [group for name, group in file["entry"].items() if name.startswith("bank") and name.endswith("_events")]
        tofs = np.concatenate([bank["event_time_offset"][()] for bank in banks if "bank_" not in bank.name])
    wanted, _ = np.histogram(tofs, picture.edges_us)
    # Bin edges fall between the 0.1 µs steps of TOF but for rounding.
    assert np.abs(picture.counts - wanted).sum() <= 2
    assert picture.counts.sum() == 171_200
    assert np.isclose(picture.rate[0], 200 * 59.6, rtol=0.05)
    live.packets(stream[-2:], 1)
    assert live.picture() is None


def test_a_stream_that_comes_again_is_not_counted_twice() -> None:
    live = LiveHistogram(33_333.0, 500)
    for _ in range(2):
        live.connected()
        live.packets(recorded()[:-2], 1)
    picture = live.picture()
    assert picture is not None
    assert picture.total == 171_200


def test_bad_packets_are_counted_and_the_rest_goes_on() -> None:
    live = LiveHistogram(33_333.0, 500)
    live.connected()
    stream = recorded()
    live.packets([*stream[:30], Packet(0x4000, 1, stream[0].seconds, 0, memoryview(b"\0" * 8), 0), *stream[30:-2]], 1)
    picture = live.picture()
    assert live.bad == 1
    assert picture is not None
    assert picture.total == 171_200


def test_long_runs_have_few_points_and_no_count_is_lost() -> None:
    live = LiveHistogram(33_333.0, 500)
    live.connected()
    live.packets(recorded()[:40], 1)
    before = live.total
    for second in range(0, 20_000, 10):
        live._pulse(1_795_393_410_000_000_000 + second * 1_000_000_000, 7)
    picture = live.picture()
    assert picture is not None
    assert len(picture.rate) <= 600
    assert sum(live._points) == before + 7 * 2000


def test_the_figure_has_units_and_shows_no_markup_of_others() -> None:
    live = LiveHistogram(33_333.0, 500)
    live.connected()
    live.packets(recorded()[:-2], 1)
    picture = live.picture()
    assert picture is not None
    figure = json.loads(picture_json(picture, "HYS"))
    layout = figure["layout"]
    assert layout["title"]["text"].startswith("HYS run 1001, live: 171,200 counts until ")
    assert "µs" in layout["xaxis"]["title"]["text"]
    assert "(s)" in layout["xaxis2"]["title"]["text"]
    assert sum(figure["data"][0]["y"]) == 171_200
