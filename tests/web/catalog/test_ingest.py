"""Raw files come into the catalog, whatever they are."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import httpx
import numpy as np
import pytest

from tests.support.recorded import SMALL_RUN
from tests.support.websites import Website

Made = Callable[[Callable[[Any], None]], Path]


def ingest(catalog: Website, path: Path | str, kind: str = "datafiles", token: str = "catalog-token") -> httpx.Response:
    return ingest_raw(catalog, quote(str(path), safe="/"), kind, catalog.bearer(token))


def ingest_raw(catalog: Website, path: str, kind: str, headers: dict[str, str]) -> httpx.Response:
    answer = catalog.http.post(f"{catalog.url}/api/{kind}{path}/ingest", headers=headers)
    assert answer.headers["content-type"] == "application/json"
    return answer


def entry_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["metadata"]["entry"]
    return found


def test_a_recorded_run_is_cataloged_with_what_its_file_says(catalog: Website, raw: Path, run: int) -> None:
    answer = ingest(catalog, raw)
    assert answer.status_code == 200
    found = answer.json()
    assert len(found["id"]) == 24
    assert int(found["id"], 16)
    wanted = {"type": "datafile", "location": str(raw), "facility": "SNS", "instrument": "HYS", "experiment": "IPTS-12345",
              "indexed": {"run_number": run}, "ext": ".nxs.h5", "tags": ["type/raw"]}  # fmt: skip
    assert {key: found[key] for key in wanted} == wanted
    entry = found["metadata"]["entry"]
    assert entry["title"] == "small run"
    assert entry["total_counts"] == 171_200
    assert entry["duration"] == pytest.approx(16.556494)
    assert entry["proton_charge"] == pytest.approx(1.577338e10)
    assert entry["start_time"] == "2026-11-23T00:23:25.513603683+00:00"
    assert entry["end_time"] == "2026-11-23T00:23:42.070096624+00:00"
    assert entry["experiment_identifier"] == "IPTS-12345"
    assert entry["instrument"] == {"name": "HYSPEC", "short_name": "HYS"}
    assert entry["daslogs"]["bl14b:chop:speed"] == {"average_value": 90.0, "device_name": "Motors"}


def test_cataloging_again_renews_the_entry(catalog: Website, raw: Path) -> None:
    first = ingest(catalog, raw).json()
    with h5py.File(raw, "r+") as file:
        file["entry/title"][0] = b"new text"
    second = ingest(catalog, raw).json()
    assert second["id"] == first["id"]
    assert second["ingested"] > first["ingested"]
    assert second["metadata"]["entry"]["title"] == "new text"


def test_an_earlier_version_of_a_file_is_an_entry_of_its_own(catalog: Website, raw: Path, run: int) -> None:
    earlier = raw.with_name(f"HYS_{run}.v1.nxs.h5")
    earlier.write_bytes(raw.read_bytes())
    one, other = ingest(catalog, raw).json(), ingest(catalog, earlier).json()
    assert one["id"] != other["id"]
    assert one["indexed"] == other["indexed"] == {"run_number": run}


def test_a_file_cataloged_by_several_at_once_has_one_entry(catalog: Website, raw: Path, run: int) -> None:
    begin = threading.Barrier(8)

    def one(_: int) -> httpx.Response:
        begin.wait()
        return ingest(catalog, raw)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(catalog.get(f"/api/datafiles?ranges_q=indexed.run_number:{run}").json()) == 1


def test_only_the_agents_token_may_catalog(catalog: Website, raw: Path, run: int) -> None:
    path = quote(str(raw))
    for headers in (
        {},
        {"Authorization": "Bearer nothing"},
        {"Authorization": catalog.settings.secret("catalog-token")},
    ):
        assert ingest_raw(catalog, path, "datafiles", headers).status_code == 401
        assert ingest_raw(catalog, "/no/such/file", "reductions", headers).status_code == 401
    assert ingest(catalog, raw, token="service-token").status_code in (401, 403)
    assert catalog.get(f"/api/datafiles?ranges_q=indexed.run_number:{run}").json() == []


def test_names_with_odd_characters_are_found(catalog: Website, raw: Path) -> None:
    odd = raw.with_name("HYS_1 b#c%25?d&é ..nxs.h5")
    odd.write_bytes(raw.read_bytes())
    assert ingest(catalog, odd).json()["location"] == str(odd)
    assert catalog.get(f"/api/datafiles{quote(str(odd))}").json()["location"] == str(odd)


def test_slashes_that_are_doubled_do_not_matter(catalog: Website, raw: Path) -> None:
    for path in ("/" + quote(str(raw)), quote(str(raw), safe="")):
        answer = ingest_raw(
            catalog, path if path.startswith("/") else "/" + path, "datafiles", catalog.bearer("catalog-token")
        )
        assert answer.json()["location"] == str(raw)


@pytest.mark.parametrize("kind", ["datafiles", "reductions"])
def test_files_outside_of_the_archive_are_as_good_as_not_there(catalog: Website, raw: Path, kind: str) -> None:
    outside = catalog.archive.parent / "outside.nxs.h5"
    outside.write_bytes(raw.read_bytes())
    up = "/".join([".."] * 12)
    inside = quote(str(raw.parent))
    paths = [
        "/etc/passwd",
        "/no/such/file",
        quote(str(outside)),
        f"{inside}/..%2f..%2f..%2f..%2f..%2foutside.nxs.h5",
        f"{inside}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/outside.nxs.h5",
        f"/{up.replace('.', '%2e')}/etc/passwd",
        f"{inside}/..%5c..%5coutside.nxs.h5",
        f"{inside}/%2e%2e/nexus/{raw.name}",
        f"{inside}/%2e%2e%2fnexus%2f{raw.name}",
    ]
    for path in paths:
        answer = ingest_raw(catalog, path, kind, catalog.bearer("catalog-token"))
        assert answer.status_code == 404, path
        assert answer.json()["message"].startswith(("Could not find the file", "There is no such resource"))


def test_a_path_that_no_client_would_shorten_is_not_found(catalog: Website, raw: Path) -> None:
    token = catalog.bearer("catalog-token")["Authorization"]
    (catalog.archive.parent / "outside.nxs.h5").write_bytes(raw.read_bytes())
    for path in (
        f"{raw.parent}/../../../../../outside.nxs.h5",
        f"{raw.parent}/../nexus/{raw.name}",
        "/../../../etc/passwd",
    ):
        head = f"POST /api/datafiles{path}/ingest HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n"
        assert catalog.raw(f"{head}Content-Length: 0\r\n\r\n".encode()).startswith(b"HTTP/1.1 404"), path


def test_a_link_out_of_the_archive_is_not_followed(catalog: Website, raw: Path, run: int) -> None:
    outside = catalog.archive.parent / "outside.nxs.h5"
    outside.write_bytes(raw.read_bytes())
    raw.unlink()
    raw.symlink_to(outside)
    assert ingest(catalog, raw).status_code == 404
    folder = catalog.archive / f"SNS/HYS/IPTS-{run}"
    folder.symlink_to(catalog.archive.parent)
    assert ingest(catalog, folder / "outside.nxs.h5").status_code == 404
    circle = raw.with_name(f"HYS_{run}.circle.nxs.h5")
    circle.symlink_to(circle)
    assert ingest(catalog, circle).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/", "", "/%00", "/\u202e", "/" + "x" * 300, "/" + "/".join(["x" * 200] * 30), "/~root/.ssh", "/%ff%fe", "/\n"],
)
def test_paths_that_cannot_be_are_not_found(catalog: Website, path: str) -> None:
    inside = quote(str(catalog.archive)) + (path if "%" in path else quote(path))
    for where in (inside, path if "%" in path else quote(path)):
        answer = catalog.http.post(
            f"{catalog.url}/api/datafiles{where}/ingest", headers=catalog.bearer("catalog-token")
        )
        assert answer.status_code == (404 if path.strip("/") or where != quote(path) else 405), where
        assert list(answer.json()) == ["message"]


def test_a_long_path_in_the_archive_is_cataloged_or_refused_with_a_sentence(catalog: Website, raw: Path) -> None:
    deep = raw.parent
    statuses = []
    for _ in range(15):
        deep = deep / os.urandom(100).hex()
        deep.mkdir()
        file = deep / "x.nxs.h5"
        file.write_bytes(raw.read_bytes())
        statuses.append(ingest(catalog, file).status_code)
    assert statuses[0] == 200
    assert set(statuses) <= {200, 404}
    assert ingest(catalog, raw.with_name("a." + "e" * 200)).status_code == 404
    long_extension = raw.with_name("a." + "e" * 200)
    long_extension.write_bytes(raw.read_bytes())
    assert ingest(catalog, long_extension).status_code == 200


def test_what_is_no_file_is_not_found(catalog: Website, raw: Path, run: int) -> None:
    pipe = raw.with_name(f"HYS_{run}.pipe")
    os.mkfifo(pipe)
    for path in (pipe, raw.parent, catalog.archive, Path("/dev/zero")):
        assert ingest(catalog, path).status_code == 404


@pytest.mark.parametrize("size", [0, 8, 2048, 100_000, 1_000_000])
def test_a_file_that_is_cut_off_is_refused_with_a_sentence(catalog: Website, raw: Path, size: int) -> None:
    os.truncate(raw, size)
    answer = ingest(catalog, raw)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"The file {raw} is no NeXus file")


@pytest.mark.parametrize("content", [b"not HDF5", b"\x89HDF\r\n\x1a\n" + b"\xff" * 1000, b"\0" * 4096])
def test_a_file_that_is_something_else_is_refused_with_a_sentence(catalog: Website, raw: Path, content: bytes) -> None:
    raw.write_bytes(content)
    answer = ingest(catalog, raw)
    assert answer.status_code == 400
    assert "NeXus" in answer.json()["message"]


def test_damaged_files_never_stop_the_catalog(catalog: Website, raw: Path) -> None:
    whole = SMALL_RUN.read_bytes()[:200_000]
    random = np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(whole)
        for at in random.integers(8, len(damaged), 400):
            damaged[at] = random.integers(256)
        raw.write_bytes(damaged)
        assert ingest(catalog, raw).status_code in (200, 400)
    raw.write_bytes(SMALL_RUN.read_bytes())
    assert entry_of(ingest(catalog, raw))["total_counts"] == 171_200


def test_a_file_without_an_entry_is_refused(catalog: Website, raw: Path) -> None:
    for name in ("other", "entry"):
        with h5py.File(raw, "w") as file:
            file[name] = 1  # a dataset, not a group
        answer = ingest(catalog, raw)
        assert answer.status_code == 400
        assert "entry" in answer.json()["message"]


def test_an_empty_entry_is_cataloged_by_where_it_lies(catalog: Website, made: Made, run: int) -> None:
    found = ingest(catalog, made(lambda entry: None)).json()
    assert (found["instrument"], found["experiment"], found["indexed"]["run_number"]) == ("HYS", "IPTS-12345", run)


def test_values_of_odd_kinds_are_left_out_or_made_plain(catalog: Website, made: Made) -> None:
    def fill(entry: Any) -> None:
        entry["title"] = np.array([b"nul\0in\xff it"])
        entry["start_time"] = h5py.Empty("S10")
        entry["end_time"] = 12
        entry["experiment_title"] = np.array([], dtype="S4")
        entry["duration"] = np.float64("nan")
        entry["proton_charge"] = np.longdouble("inf")
        entry["total_counts"] = np.uint64(2**64 - 1)
        entry["total_pulses"] = "many"
        entry["run_number"] = "\u0661"
        logs = entry.create_group("DASlogs")
        logs.create_group(b"bad \xff name")["average_value"] = [1.5]
        logs.create_group("no values")
        logs["no group"] = 1
        logs.create_group("Complex")["average_value"] = 1j
        logs.create_group("Longdouble")["average_value"] = np.longdouble(1.5)

    entry = entry_of(ingest(catalog, made(fill)))
    assert entry["title"] == "nul" or entry["title"].startswith("nulin")
    assert not {"start_time", "end_time", "experiment_title", "total_pulses"} & {
        k for k, v in entry.items() if v is not None
    }
    assert entry.get("duration") is None
    assert entry.get("proton_charge") is None
    assert entry["total_counts"] == 2**64 - 1
    assert entry["daslogs"]["longdouble"]["average_value"] == 1.5


def test_texts_and_logs_are_bounded(catalog: Website, made: Made) -> None:
    def fill(entry: Any) -> None:
        entry["title"] = "t" * 100_000
        logs = entry.create_group("DASlogs")
        for number in range(1200):
            logs.create_group(f"PV{number}")["average_value"] = [float(number)]

    answer = ingest(catalog, made(fill))
    assert len(entry_of(answer)["title"]) <= 2000
    assert 100 <= len(entry_of(answer)["daslogs"]) <= 1000
    assert len(answer.content) < 200_000


def test_a_file_that_would_swell_in_memory_is_read_without_that(catalog: Website, made: Made) -> None:
    def fill(entry: Any) -> None:
        entry.create_dataset("duration", dtype="f8", shape=(2**24,), chunks=(2**24,), compression="gzip")[0] = 1.0
        entry.create_dataset("title", dtype="S8", shape=(2**32,), chunks=(2**10,))[0] = b"a title"
        entry.create_dataset("total_counts", dtype="u8", shape=(2**40,), chunks=(2**10,))[0] = 7

    entry = entry_of(ingest(catalog, made(fill)))
    assert entry["title"] == "a title"
    assert entry["total_counts"] == 7


def test_a_file_cannot_make_the_catalog_read_another_one(catalog: Website, made: Made, raw: Path) -> None:
    """Whoever may write into one experiment's folder must not see into others by way of the catalog."""
    secret = catalog.archive.parent / "secret.txt"
    secret.write_bytes(b"TOPSECRET 12345678901234567890")
    other = catalog.archive.parent / "other.nxs.h5"
    with h5py.File(other, "w") as file:
        file["entry/title"] = b"TOPSECRET"
        file["entry/DASlogs/TOPSECRET/average_value"] = [1.0]
        file["numbers"] = np.array([4711.0])
    pipe = catalog.archive.parent / "pipe"
    os.mkfifo(pipe)

    def fill(entry: Any) -> None:
        entry["title"] = h5py.ExternalLink(str(other), "entry/title")
        entry["DASlogs"] = h5py.ExternalLink(str(other), "entry/DASlogs")
        entry["end_time"] = h5py.ExternalLink(str(pipe), "x")
        entry["away"] = h5py.ExternalLink(str(other), "/")
        entry["experiment_title"] = h5py.SoftLink("/entry/away/entry/title")
        entry["start_time"] = h5py.SoftLink("start_time")
        entry.create_dataset("run_number", shape=(1,), dtype="S30", external=[(str(secret), 0, 30)])
        layout = h5py.VirtualLayout((1,), "f8")
        layout[0:1] = h5py.VirtualSource(str(other), "numbers", (1,))
        entry.create_virtual_dataset("duration", layout)

    answer = ingest(catalog, made(fill))
    assert answer.status_code == 200
    assert "TOPSECRET" not in answer.text
    assert "4711" not in answer.text
    with h5py.File(raw, "w") as file:
        file["entry"] = h5py.ExternalLink(str(other), "entry")
    assert ingest(catalog, raw).status_code == 400


def test_links_within_a_file_are_followed(catalog: Website, made: Made) -> None:
    def fill(entry: Any) -> None:
        entry["info/title"] = b"by links"
        entry["detour"] = h5py.SoftLink("/entry/info")
        entry["title"] = h5py.SoftLink("detour/title")

    assert entry_of(ingest(catalog, made(fill)))["title"] == "by links"


def test_health_is_told_while_files_are_read(catalog: Website, raw: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        readings = [pool.submit(ingest, catalog, raw) for _ in range(12)]
        assert catalog.get("/healthz", headers={}).status_code == 200
        assert {reading.result().status_code for reading in readings} == {200}


def test_what_a_probe_leaves_is_removed_by_the_service_token_and_nothing_else_is(
    catalog: Website, raw: Path, run: int
) -> None:
    probed = catalog.settings.probe_root / "SNS" / "PROBE" / "IPTS-1" / "nexus" / f"PROBE_{run}.nxs.h5"
    probed.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(raw, probed)
    assert ingest(catalog, raw).json()["location"] == str(raw)
    assert ingest(catalog, probed).json()["instrument"] == "PROBE"

    def delete(path: str, token: str) -> httpx.Response:
        url = f"http://127.0.0.1:{catalog.settings.port('catalog')}{path}"
        return httpx.delete(url, headers=catalog.bearer(token), timeout=10)

    assert delete(f"/api/probe/{run}", "django-catalog").status_code == 401
    assert delete(f"/api/datafiles{raw}", "service-token").status_code == 403
    assert delete(f"/api/probe/{run}", "service-token").json() == {"removed": 1}
    assert catalog.get("/api/datafiles?instrument=PROBE").json() == []
    assert catalog.get(f"/api/datafiles{raw}").status_code == 200
