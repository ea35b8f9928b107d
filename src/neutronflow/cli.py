"""One command; one subcommand a service, plus what people use.

Subcommands are imported only when called, so that each service's process holds just what it needs. A subcommand's module has
``configure(parser)`` and ``run(args) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from neutronflow import __version__
from neutronflow.foundation.errors import NeutronflowError

#: name -> (module, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("neutronflow.stack.up", "start everything on this machine and stay in the foreground"),
    "status": ("neutronflow.stack.status", "each service of the running stack, with its readiness"),
    "config": ("neutronflow.stack.show_config", "the effective settings, without secrets"),
    "doctor": ("neutronflow.stack.doctor", "what of the optional world is there, and how to get the rest"),
    "replay": ("neutronflow.stack.replay", "send a recorded stream to the translator and wait for the plot"),
    "probe": ("neutronflow.stack.probe", "send a small run through the running stack and time each stage"),
    "translate": (
        "neutronflow.instrument.translation.offline",
        "translate a recorded stream to NeXus, no service needed",
    ),
    "bench": ("neutronflow.stack.bench", "run the benchmarks of a checkout"),
    "database": ("neutronflow.store.command", "create, migrate and check the workflow database"),
    "broker": ("neutronflow.foundation.broker.embedded.service", "service: the embedded STOMP broker"),
    "manager": ("neutronflow.workflow.manager.service", "service: the workflow manager"),
    "listener": ("neutronflow.workflow.listener.service", "service: the DASMON listener"),
    "agent": ("neutronflow.processing.agent.service", "service: a post-processing agent"),
    "stream": ("neutronflow.instrument.stream.service", "service: the stream service of a beamline"),
    "simulator": ("neutronflow.instrument.simulator.service", "service: a simulated powder diffractometer"),
    "dasmon": ("neutronflow.instrument.dasmon.service", "service: DASMON, which watches the live stream"),
    "livereduce": (
        "neutronflow.instrument.livereduce.service",
        "service: live pictures of the run that is being taken",
    ),
    "translator": ("neutronflow.instrument.translation.service", "service: event streams to NeXus files"),
    "catalog": ("neutronflow.web.catalog.service", "service: the built-in catalog"),
    "livedata": ("neutronflow.web.livedata.service", "service: the live data server"),
    "monitor": ("neutronflow.web.monitor.service", "service: the web monitor"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Errors meant for people end it with their sentence and exit code 2."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="neutronflow", description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"neutronflow {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, help_text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        if name == chosen:
            importlib.import_module(module).configure(subparser)
    args = parser.parse_args(argv)
    try:
        code: int = importlib.import_module(COMMANDS[args.command][0]).run(args)
    except NeutronflowError as error:
        print(f"neutronflow {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone away (a pager, head); that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
