"""Pictures of runs that are being taken: replaced by the next, and never in the way of the reduction's plot."""

from __future__ import annotations

from tests.support.websites import PlotSite

LIVE = {"live": "1"}


def upload(site: PlotSite, run: int, text: str, *, live: bool) -> int:
    content = f"<div>{text}</div>".encode()
    return site.upload("HYS", run, content, form=LIVE if live else None).status_code


def shown(site: PlotSite, run: int) -> tuple[str, str | None]:
    answer = site.get(f"/plots/hys/{run}/update/html/")
    assert answer.status_code == 200
    return answer.text, answer.headers.get("X-Neutronflow-Live")


def test_a_live_picture_is_marked_and_says_of_when_it_is(site: PlotSite, run: int) -> None:
    assert upload(site, run, "first", live=True) == 200
    answer = site.get(f"/plots/hys/{run}/update/html/")
    assert (answer.text, answer.headers["X-Neutronflow-Live"]) == ("<div>first</div>", "1")
    assert "Last-Modified-At" in answer.headers
    assert [entry["live"] for entry in site.get(f"/plots/hys/{run}/history/").json()] == [True]


def test_the_next_live_picture_replaces_the_one_before(site: PlotSite, run: int) -> None:
    for number in range(5):
        assert upload(site, run, f"picture {number}", live=True) == 200
    assert shown(site, run) == ("<div>picture 4</div>", "1")
    assert len(site.get(f"/plots/hys/{run}/history/").json()) == 1


def test_the_reductions_plot_replaces_live_pictures_for_good(site: PlotSite, run: int) -> None:
    upload(site, run, "live", live=True)
    assert upload(site, run, "reduced", live=False) == 200
    assert shown(site, run) == ("<div>reduced</div>", None)
    assert upload(site, run, "late", live=True) == 409
    assert shown(site, run) == ("<div>reduced</div>", None)
    assert upload(site, run, "reduced again", live=False) == 200
    assert [entry["live"] for entry in site.get(f"/plots/hys/{run}/history/").json()] == [False, False]


def test_whether_it_is_live_changes_nothing_of_who_may_upload(site: PlotSite, run: int) -> None:
    assert site.upload("HYS", run, b"<div>x</div>", headers={}, form=LIVE).status_code == 401
