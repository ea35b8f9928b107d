from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import Cluster
from tests.support.services import Services, services


@pytest.fixture(scope="module")
def place(
    cluster: Cluster, _migrated_template: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Services]:
    """A broker, and a database for the tests of one module, who take run numbers of their own."""
    folder = tmp_path_factory.mktemp("place")
    conninfo = cluster.create_database(request.module.__name__.replace(".", "_"), _migrated_template)
    with services(folder, conninfo) as running:
        running.prepare_roles()
        running.start("broker")
        yield running
