"""Several translators publish into one archive."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

from neutronflow.instrument.translation.archive import publish


def _publish(finished: Path, target: Path, together: Barrier) -> None:
    together.wait()
    publish(finished, target)


def test_of_translators_that_publish_the_same_run_at_once_none_loses_its_file(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    for attempt in range(10):
        target = tmp_path / str(attempt) / "HYS_1.nxs.h5"
        together = processes.Barrier(3)
        finished = [tmp_path / f"{attempt}-{number}" for number in range(3)]
        for path in finished:
            path.write_text(path.name)
        translators = [processes.Process(target=_publish, args=(path, target, together)) for path in finished]
        for one in translators:
            one.start()
        for one in translators:
            one.join()
        assert {path.read_text() for path in target.parent.iterdir()} == {path.name for path in finished}
