"""The names of benchmarks and their units, fixed so that results of years can stand beside each other."""

from __future__ import annotations

from neutronflow.foundation.errors import NeutronflowError

_UNITS = {
    **dict.fromkeys(
        ("workflow.status.embedded", "workflow.status.artemis", "workflow.status.classic", "listener.dasmon"),
        "messages/s",
    ),
    "workflow.runs.embedded": "runs/s",
    **dict.fromkeys(("listener.values", "pv.sql"), "values/s"),
    "agent.jobs": "jobs/s",
    "adara-parse.large": "GB/s",
    "adara-parse.tiny": "Mpackets/s",
    **dict.fromkeys(("stream.raw", "translation.large", "translation.tiny", "translation.deflate"), "Mevents/s"),
    **dict.fromkeys(("broker.embedded", "broker.artemis", "broker.classic"), "messages/s"),
}


class UnnamedBenchmark(NeutronflowError):
    """No unit is fixed for a benchmark named '{name}'."""

    code = "unnamed-benchmark"


def unit_of(name: str) -> str:
    """The unit of a benchmark. Raises :class:`UnnamedBenchmark`."""
    if name.startswith("page."):
        return "ms"
    try:
        return _UNITS[name]
    except KeyError:
        raise UnnamedBenchmark(name=name) from None
