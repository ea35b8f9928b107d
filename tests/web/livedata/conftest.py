from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.postgres import Cluster
from tests.support.websites import PlotSite, plot_site

_runs = itertools.count(1)


@pytest.fixture(scope="package")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlotSite]:
    """One running live data server; each test takes runs of its own."""
    changes = {
        "NEUTRONFLOW_LIVEDATA__MAX_UPLOAD_MB": "1",
        "NEUTRONFLOW_LIVEDATA__CORS_ORIGINS": '["https://monitor.example"]',
    }
    with plot_site(tmp_path_factory.mktemp("livedata"), cluster, **changes) as place:
        place.start("livedata")
        yield place


@pytest.fixture
def run() -> int:
    """A run number that no other test has."""
    return next(_runs)


@pytest.fixture
def plot() -> Callable[[str], bytes]:
    """A plot as publishers send it, with this text in it."""

    def content(text: str) -> bytes:
        script = f'<script>Plotly.newPlot("a", [{text!r}])</script>'
        return f'<div><div id="a" class="plotly-graph-div"></div>{script}</div>'.encode()

    return content
