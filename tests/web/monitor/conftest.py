from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.pages import Monitor
from tests.support.postgres import Cluster


@pytest.fixture(scope="module")
def monitor(
    cluster: Cluster, _migrated_template: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Monitor]:
    """A running monitor with an empty database, for the tests of one module, who take instruments of their own."""
    conninfo = cluster.create_database(request.module.__name__.replace(".", "_"), _migrated_template)
    place = Monitor(tmp_path_factory.mktemp("monitor"), conninfo, NEUTRONFLOW_MONITOR__LOGIN_FAILURES="4")
    place.prepare_roles()
    try:
        place.start("monitor")
        yield place
    finally:
        place.end_all()


@pytest.fixture(scope="module")
def browser(monitor: Monitor) -> Iterator[httpx.Client]:
    """Someone who has logged in."""
    with monitor.session() as client:
        yield client
