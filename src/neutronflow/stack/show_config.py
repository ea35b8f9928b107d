"""``neutronflow config``: the effective settings. Secrets are no settings, so none can be shown."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import msgspec

from neutronflow.foundation.config import PORTS, load

#: section -> where its struct is defined.
SECTIONS = {
    "core": "neutronflow.foundation.config:Core",
    "beamline": "neutronflow.domain.beamline:BeamlineSettings",
    "database": "neutronflow.store.settings:DatabaseSettings",
    "postgresql": "neutronflow.stack.postgres:PostgresSettings",
    "broker": "neutronflow.foundation.broker.settings:BrokerSettings",
    "manager": "neutronflow.workflow.manager.settings:ManagerSettings",
    "listener": "neutronflow.workflow.listener.settings:ListenerSettings",
    "stream": "neutronflow.instrument.stream.settings:StreamSettings",
    "simulator": "neutronflow.instrument.simulator.settings:SimulatorSettings",
    "dasmon": "neutronflow.instrument.dasmon.settings:DasmonSettings",
    "livereduce": "neutronflow.instrument.livereduce.settings:LivereduceSettings",
    "translator": "neutronflow.instrument.translation.settings:TranslatorSettings",
    "agent": "neutronflow.processing.agent.settings:AgentSettings",
    "catalog": "neutronflow.web.catalog.configuration:CatalogSettings",
    "livedata": "neutronflow.web.livedata.configuration:LivedataSettings",
    "monitor": "neutronflow.web.monitor.configuration:MonitorSettings",
    "probe": "neutronflow.stack.probe:ProbeSettings",
    "replay": "neutronflow.stack.replay:ReplaySettings",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("--json", action="store_true", help="print it as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print every section as the services see it."""
    settings = load()
    tree: dict[str, Any] = {}
    for name, where in SECTIONS.items():
        module, struct = where.split(":")
        tree[name] = msgspec.to_builtins(
            settings.section(name, getattr(importlib.import_module(module), struct)), enc_hook=str
        )
    tree["core"] |= {"data_dir": str(settings.data_dir), "archive_root": str(settings.archive_root)}
    tree["core"]["probe_root"] = str(settings.probe_root)
    tree["facilities"] = dict(settings.table("facilities"))
    tree["ports"] = {name: settings.port(name) for name in PORTS}
    if args.json:
        print(json.dumps(tree))
        return 0
    for name, values in tree.items():
        print(f"[{name}]")
        for key, value in values.items():
            print(f"{key} = {json.dumps(value if not isinstance(value, Path) else str(value))}")
        print()
    return 0
