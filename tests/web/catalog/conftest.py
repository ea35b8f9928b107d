from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest

from tests.support.postgres import Cluster
from tests.support.recorded import SMALL_RUN
from tests.support.websites import Website

_runs = itertools.count(1001)


@pytest.fixture(scope="package")
def catalog(cluster: Cluster, _migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """One running catalog; each test takes runs of its own."""
    conninfo = cluster.create_database("workflow_of_catalog", _migrated_template)
    place = Website(tmp_path_factory.mktemp("catalog"), conninfo, "catalog", NEUTRONFLOW_CATALOG__READ_TIMEOUT_S="3")
    place.prepare_roles()
    place.migrate()
    place.start("catalog")
    yield place
    place.end_all()


@pytest.fixture
def run() -> int:
    """A run number that no other test has."""
    return next(_runs)


@pytest.fixture
def raw(catalog: Website, run: int) -> Path:
    """The recorded run's file, as if it were this test's."""
    path = catalog.archive / f"SNS/HYS/IPTS-12345/nexus/HYS_{run}.nxs.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(SMALL_RUN, path)
    return path


@pytest.fixture
def made(catalog: Website, run: int) -> Callable[[Callable[[Any], None]], Path]:
    """Makes a file of this test's run, with what a function puts into its entry."""

    def make(fill: Callable[[Any], None]) -> Path:
        path = catalog.archive / f"SNS/HYS/IPTS-12345/nexus/HYS_{run}.nxs.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            fill(file.create_group("entry"))
        return path

    return make
