"""Jobs are real processes here, and so are those they leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neutronflow.processing.executors.local import JobNotStarted, JobResult, JobSpec, run_job
from tests.support.station import FOREVER, NOTE_PID, eventually, gone, pid_in


def spec(folder: Path, code: str, **changes: object) -> JobSpec:
    values: dict[str, object] = {
        "argv": [sys.executable, "-c", code],
        "cwd": folder,
        "log": folder / "job.log",
        "err": folder / "job.err",
        "environment": {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        "time_limit_s": 20.0,
        "grace_s": 0.3,
    }
    return JobSpec(**{**values, **changes})  # type: ignore[arg-type]


def run(folder: Path, code: str, **changes: object) -> JobResult:
    return asyncio.run(run_job(spec(folder, code, **changes)))


def test_exit_code_output_and_resources_come_back(tmp_path: Path) -> None:
    result = run(tmp_path, "import sys; print('out'); print('warned', file=sys.stderr); sys.exit(3)")
    assert (result.exit_code, result.signal, result.reason) == (3, None, "")
    assert sorted((tmp_path / "job.log").read_text().splitlines()) == ["out", "warned"]
    assert (tmp_path / "job.err").read_text() == "warned\n"
    assert result.cpu_s > 0
    assert result.max_rss_bytes > 1_000_000


def test_lines_of_both_streams_stay_whole_in_the_log(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for i in range(300):\n"
        "    sys.stdout.write('o' * 50); sys.stderr.write('e' * 50); sys.stdout.write('\\n'); sys.stderr.write('\\n')\n"
    )
    run(tmp_path, code)
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert sorted(set(lines)) == ["e" * 50, "o" * 50]
    assert len(lines) == 600


def test_a_signal_that_ends_the_script_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert (result.exit_code, result.signal) == (None, 9)


def test_a_log_does_not_grow_beyond_its_limit_and_keeps_its_end(tmp_path: Path) -> None:
    code = "for i in range(40000): print('line', i, 'x' * 40)"
    run(tmp_path, code, max_log_bytes=200_000)
    log = (tmp_path / "job.log").read_text()
    assert len(log) < 300_000
    assert log.startswith("line 0 ")
    assert "bytes left out" in log
    assert log.rstrip().endswith("line 39999 " + "x" * 40)


def test_at_the_time_limit_the_whole_tree_is_killed(tmp_path: Path) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)\n"
        f"open('c', 'w').write(str(child.pid)); import os; os.rename('c', 'child')\n{FOREVER}"
    )
    result = run(tmp_path, code, time_limit_s=1.0)
    assert result.reason == "time-limit"
    assert result.elapsed_s < 3
    assert gone(pid_in(tmp_path / "child"))
    assert "Time limit exceeded (1.0 s > 1.0 s). Terminating job." in (tmp_path / "job.err").read_text()


def test_what_a_script_leaves_running_does_not_outlive_the_job(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open('d', 'w').write(str(os.getpid())); os.rename('d', 'daemon')\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "while not os.path.exists('daemon'): time.sleep(0.01)\n"
        "print('done')\n"
    )
    begin = time.monotonic()
    result = run(tmp_path, code)
    assert result.exit_code == 0
    assert time.monotonic() - begin < 5
    assert gone(pid_in(tmp_path / "daemon"))


def test_cancelling_ends_the_job_at_once(tmp_path: Path) -> None:
    async def cancelled() -> None:
        job = asyncio.ensure_future(run_job(spec(tmp_path, f"{NOTE_PID}{FOREVER}", grace_s=60.0)))
        await asyncio.to_thread(pid_in, tmp_path / "pid")
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    begin = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - begin < 5
    assert gone(pid_in(tmp_path / "pid"))


def test_a_job_and_its_children_die_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    job = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}], start_new_session=True)\n"
        f"open('c', 'w').write(str(child.pid)); os.rename('c', 'child')\n{NOTE_PID}{FOREVER}"
    )
    agent = (
        "import asyncio, json, sys\n"
        "from pathlib import Path\n"
        "from neutronflow.processing.executors.local import JobSpec, run_job\n"
        "folder, job = Path(sys.argv[1]), sys.argv[2]\n"
        "asyncio.run(run_job(JobSpec(argv=[sys.executable, '-c', job], cwd=folder, log=folder / 'l', err=folder / 'e',"
        " environment={}, time_limit_s=60.0, grace_s=3.0)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", agent, str(tmp_path), job], env=environment)
    try:
        pids = [pid_in(tmp_path / "pid"), pid_in(tmp_path / "child")]
        process.send_signal(signal.SIGKILL)
        process.wait()
        eventually(lambda: all(gone(pid) for pid in pids), "job and child are gone", 5.0)
    finally:
        process.kill()
        process.wait()


def test_the_job_gets_the_given_environment_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUTRONFLOW_SECRET_BROKER_AGENT", "hidden")
    run(tmp_path, "import json, os; json.dump(dict(os.environ), open('env', 'w'))", environment={"ONLY": "this"})
    seen = json.loads((tmp_path / "env").read_text())
    assert seen["ONLY"] == "this"
    assert set(seen) - {"ONLY", "LC_CTYPE"} == set()


def test_no_descriptor_of_the_agent_reaches_the_script(tmp_path: Path) -> None:
    run(tmp_path, "import os; open('fds', 'w').write(' '.join(sorted(os.listdir('/proc/self/fd'))))")
    assert len((tmp_path / "fds").read_text().split()) <= 5  # the standard three, the file, and the listing itself


def test_an_interpreter_that_is_missing_is_a_failure_with_its_name(tmp_path: Path) -> None:
    result = run(tmp_path, "", argv=["/nowhere/python", "script.py"])
    assert result.exit_code == 127
    assert "/nowhere/python cannot be started" in result.err_tail


def test_a_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "job.log").symlink_to(victim)
    with pytest.raises(JobNotStarted, match=r"job\.log"):
        run(tmp_path, "print('overwritten')")
    assert victim.read_text() == "precious"


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.log")
    with pytest.raises(JobNotStarted, match=r"job\.log"):
        asyncio.run(asyncio.wait_for(run_job(spec(tmp_path, "print('never read')")), 10))
