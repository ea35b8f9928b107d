"""``neutronflow status``: each service of the running stack."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import psutil

from neutronflow.foundation.config import load
from neutronflow.stack.datadir import DataDirectory
from neutronflow.stack.errors import NotRunning


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--json", action="store_true", help="print it as one JSON object")


def run(args: argparse.Namespace) -> int:
    """0 only when every service has passed its readiness check."""
    data = DataDirectory(load().data_dir)
    holder = data.holder()
    if holder is None:
        raise NotRunning(path=data.path)
    told = _told(data)
    services = [_with_memory(service) for service in told["services"] if not service["task"]]
    memory = [service["pss_mb"] for service in services if service["pss_mb"] is not None]
    supervisor = _pss_mb(holder, children=False)
    total = round(sum(memory) + (supervisor or 0.0), 1)
    unready = [service["name"] for service in services if not service["ready"]]
    unready += [task["name"] for task in told["services"] if task["task"] and not task["ready"]]
    unready += [] if services else ["up"]
    if args.json:
        print(json.dumps({"pid": holder, "ready": not unready, "services": services, "pss_mb": total}))
    else:
        _print(services, holder, supervisor, total)
        if unready:
            print(f"not ready: {', '.join(unready)}")
    return 1 if unready else 0


def _with_memory(service: dict[str, Any]) -> dict[str, Any]:
    uptime = round(time.time() - service["since"], 1)
    return {**service, "uptime_s": uptime, "pss_mb": _pss_mb(service["pid"]) if service["pid"] else None}


def _told(data: DataDirectory) -> Any:
    """What the supervisor says; without services while it has not said anything yet."""
    try:
        return json.loads(data.status_file.read_text())
    except FileNotFoundError:
        return {"services": []}


def _pss_mb(pid: int, *, children: bool = True) -> float | None:
    """Proportional set size of a process and its children, in MB; None where it cannot be read."""
    total = 0
    try:
        process = psutil.Process(pid)
        family = [process, *(process.children(recursive=True) if children else ())]
        for member in family:
            total += member.memory_full_info().pss
    except psutil.Error:
        return None
    return round(total / 2**20, 1)


def _print(services: list[dict[str, Any]], holder: int, supervisor: float | None, total: float) -> None:
    print(f"{'service':<14}{'state':<12}{'pid':>8}{'for':>9}{'restarts':>9}{'MB':>7}  status")
    for service in services:
        memory = "" if service["pss_mb"] is None else f"{service['pss_mb']:.0f}"
        print(
            f"{service['name']:<14}{service['state']:<12}{service['pid'] or '':>8}{_duration(service['uptime_s']):>9}"
            f"{service['restarts']:>9}{memory:>7}  {service['status']}"
        )
    print(f"{'(supervisor)':<14}{'':<12}{holder:>8}{'':>18}{supervisor or 0:>7.0f}")
    print(f"{'in all':<14}{'':<12}{'':>8}{'':>18}{total:>7.0f}  (proportional set size)")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
