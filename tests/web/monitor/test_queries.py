"""How many queries a page may ask, whatever there is to show."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.pages import Monitor

BUDGET = 12

_COUNT = """
import json, sys, django
django.setup()
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from neutronflow.store.models import User
client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("counter", password=None))
found = {}
for path in sys.argv[1:]:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path)
    assert answer.status_code == 200, (path, answer.status_code)
    found[path] = [query["sql"] for query in queries.captured_queries]
print(json.dumps(found))
"""


def test_no_page_asks_more_than_its_budget_and_none_counts_rows(monitor: Monitor) -> None:
    for instrument in ("HYS", "SEQ"):
        for number in range(1, 13):
            run = monitor.run(number, instrument, "failed" if number % 5 == 0 else "complete", ago_s=number)
            monitor.step(run, "catalog_raw", "complete")
            monitor.step(run, "reduce", "failed", 1)
            monitor.step(run, "reduce", "complete", 2)
            report = monitor.report(run, "reduce", "log\n", attempt=2)
        monitor.told(instrument, count_rate="1", recording="true", run_number="3", **{f"k{n}": "1" for n in range(40)})
        monitor.pvs(instrument, *((f"pv{n}", 1.0, None, 0) for n in range(40)))
        monitor.sql_do("SELECT setInstrumentPVs(%s, ARRAY['pv1', 'pv2'])", instrument)
        for name in "abc":
            monitor.sql_do("INSERT INTO signal (instrument_id, name, level, at) SELECT id, %s, 3, now() FROM instrument"
                           " WHERE name = %s", name, instrument)  # fmt: skip
            monitor.sql_do("INSERT INTO service_status (name, role, facility, instrument) VALUES (%s, %s, 'SNS', %s)",
                           f"SNS/{instrument} {name}", name, instrument)  # fmt: skip
    paths = [
        "/instruments/",
        "/instruments/SNS/SEQ/",
        "/instruments/SNS/SEQ/?q=1-30,IPTS-12345&state=failed",
        "/instruments/SNS/SEQ/runs/12/",
        f"/instruments/SNS/SEQ/runs/12/logs/{report}/",
        "/instruments/SNS/SEQ/now/",
        "/api/instruments/SNS/SEQ",
        "/services/",
        "/api/runs/SNS/SEQ/12",
        "/api/runs/SNS/SEQ/",
    ]
    words = [sys.executable, "-W", "ignore", "-c", _COUNT, *paths]
    environ = {**monitor.environ, "DJANGO_SETTINGS_MODULE": "neutronflow.web.monitor.settings"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout)
    assert set(asked) == set(paths)
    for path, queries in asked.items():
        assert len(queries) <= BUDGET, (path, queries)
        if path != "/instruments/":
            assert not any("COUNT(" in query for query in queries), path
