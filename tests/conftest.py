"""Fixtures that all tests share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.support.postgres import Cluster, migrate, running_cluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL for the whole test session."""
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def _migrated_template(cluster: Cluster) -> str:
    """A database with the workflow schema, to be copied."""
    cluster.create_database("workflow_template")
    migrate(cluster, "workflow_template")
    return "workflow_template"


@pytest.fixture
def workflow_database(cluster: Cluster, _migrated_template: str) -> str:
    """A fresh workflow database with the migrated schema: its conninfo, as superuser."""
    return cluster.create_database(f"workflow_{next(_numbers)}", _migrated_template)
