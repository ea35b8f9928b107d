from __future__ import annotations

import msgspec
import pytest

from neutronflow.domain.messages.report import MAX_LOG_BYTES, JobReport, bounded_log, decode_job_report
from neutronflow.domain.messages.run import BadMessage


def test_a_report_survives_the_wire() -> None:
    report = JobReport(
        facility="SNS", instrument="HYS", run_number=1, step="reduce", attempt=1, agent="autoreducer1",
        started=1.0, ended=2.0, exit_code=0, log="done",
    )  # fmt: skip
    assert decode_job_report(msgspec.json.encode(report)) == report


@pytest.mark.parametrize("body", [b"null", b"{}", b"\xff", b'{"facility": 1}', b"[" * 100_000])
def test_what_is_no_report_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage, match="no job report"):
        decode_job_report(body)


def test_a_long_log_keeps_its_beginning_and_its_end() -> None:
    log, cut = bounded_log("begin " + "é" * MAX_LOG_BYTES + " end")
    assert cut
    assert log.startswith("begin ")
    assert log.endswith(" end")
    assert "bytes left out" in log
    assert len(log.encode()) < MAX_LOG_BYTES + 100


def test_a_short_log_is_kept_whole_but_for_nul() -> None:
    assert bounded_log("a\0b") == ("a\ufffdb", False)
