from __future__ import annotations

import httpx

from tests.support.pages import Monitor


def test_a_page_renders(monitor: Monitor, browser: httpx.Client) -> None:
    run = monitor.run(1, "SEQ", "failed")
    monitor.step(run, "catalog_raw", "complete")
    monitor.step(run, "reduce", "failed", error="REDUCTION: KeyError: 'x' (exit code 1)")
    monitor.step(run, "catalog_reduced", "skipped")
    monitor.report(run, "reduce", "hello\n\x1b[31mred\x1b[0m <b>\nKeyError: 'x'\n", exit_code=1)
    monitor.event(run, "POSTPROCESS.DATA_READY", "cycle 1 began")
    for path in ("/instruments/", "/instruments/SNS/SEQ/", "/instruments/SNS/SEQ/runs/1/", "/services/"):
        answer = browser.get(path)
        assert answer.status_code == 200, (path, answer.text[:3000])
