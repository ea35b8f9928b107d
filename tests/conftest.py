"""Fixtures that all tests share."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.postgres import Cluster, running_cluster

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
    script = (
        "import django; from django.conf import settings; from neutronflow.store import django_settings as s;"
        "values = {k: getattr(s, k) for k in dir(s) if k.isupper()};"
        f"where = dict(NAME='workflow_template', HOST='127.0.0.1', PORT={cluster.port}, USER='postgres');"
        "values['DATABASES']['default'].update(where);"
        "settings.configure(**values); django.setup();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return "workflow_template"


@pytest.fixture
def workflow_database(cluster: Cluster, _migrated_template: str) -> str:
    """A fresh workflow database with the migrated schema: its conninfo, as superuser."""
    return cluster.create_database(f"workflow_{next(_numbers)}", _migrated_template)
