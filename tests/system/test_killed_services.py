"""kill -9 of any one child in the middle of a run: it comes back, and the run still completes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.stack import Stack, running_stack, wait_until
from tests.support.streams import renamed

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

SERVICES = (
    "postgresql", "broker", "manager", "listener", "autoreducer1", "autoreducer2",
    "translator", "catalog", "livedata", "monitor",
)  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("killed")) as running:
        yield running


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("moment", ["streaming", "processing"])
def test_a_killed_service_comes_back_and_the_run_completes(
    stack: Stack, tmp_path: Path, service: str, moment: str
) -> None:
    number = 2000 + 2 * SERVICES.index(service) + (moment == "processing")
    file = tmp_path / "run.adara"
    file.write_bytes(renamed(facility="SNS", instrument="HYS", experiment="IPTS-12345", run_number=number))
    speed = "8" if moment == "streaming" else "100"
    with subprocess.Popen(stack.command("replay", str(file), "--speed", speed), env=stack.environ) as sender:
        if moment == "streaming":
            working = stack.settings.archive_root / ".translating"
            wait_until(lambda: any(working.rglob("*.h5*")), "the translation has begun")
        else:
            wait_until(lambda: stack.sql("SELECT 1 FROM run WHERE run_number = %s", number), "the run is known")
        old = stack.status()[service]
        os.kill(old["pid"], signal.SIGKILL)

        def back() -> bool:
            new = stack.status().get(service, {})
            return bool(new.get("ready")) and new["pid"] != old["pid"]

        wait_until(back, f"{service} is back", 30)
        assert sender.wait(timeout=150) == 0
    assert stack.run_state(f"SNS/HYS/{number}")["state"] == "complete"
    assert stack.run_state(f"SNS/HYS/{number}")["cycle"] == 1


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        assert stack.process is not None
        family = psutil.Process(stack.process.pid).children(recursive=True)
        assert len(family) >= len(SERVICES)
        stack.stop(signal.SIGKILL)
        _gone, alive = psutil.wait_procs(family, timeout=15)
        assert [process.cmdline() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        # ... and the same data directory can be used again at once.
        stack.start()
        assert all(service["ready"] for service in stack.status().values())
        started = time.monotonic()
        assert stack.stop() == 0
        assert time.monotonic() - started < 30
