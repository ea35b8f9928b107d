"""Service: a post-processing agent.

It has two slots: one for reductions and one for cataloging, which therefore never waits behind a long reduction.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from neutronflow.clients.catalog import CatalogClient
from neutronflow.clients.livedata import publish_environment
from neutronflow.domain.facility import Facilities, known_facilities
from neutronflow.domain.messages import destinations as names
from neutronflow.domain.workflow.states import StepName
from neutronflow.foundation.broker.session import Session
from neutronflow.foundation.config import Settings
from neutronflow.foundation.errors import ConfigurationError
from neutronflow.foundation.service import begin, run_until_stopped
from neutronflow.foundation.telemetry import get_logger, notify_ready
from neutronflow.processing.agent.environment import job_environment
from neutronflow.processing.agent.presence import answer_pings, beat, open_pings
from neutronflow.processing.agent.settings import AgentSettings
from neutronflow.processing.agent.worker import Step, Worker
from neutronflow.processing.steps.catalog import Catalogs, catalog_raw, catalog_reduced
from neutronflow.processing.steps.outcome import Work
from neutronflow.processing.steps.reduce import Reduction, reduce

#: How much longer than its job a job's token for publishing lives, in seconds.
_TOKEN_MARGIN_S = 600.0
#: The queues of each slot.
_SLOTS = ((names.REDUCTION_READY,), (names.CATALOG_RAW_READY, names.REDUCTION_CATALOG_READY))

log = get_logger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``neutronflow agent``."""
    parser.add_argument(
        "--name", default=socket.gethostname(), help="how this agent calls itself in answers (default: the host's name)"
    )


def run(args: argparse.Namespace) -> int:
    """Run an agent until SIGTERM."""
    settings = begin("agent")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", args.name):
        raise ConfigurationError(where="--name", detail=f"{args.name[:80]!r} cannot be an agent's name")
    # When it is stopped, jobs end and their messages are not acknowledged: the broker gives them to another agent.
    run_until_stopped(serve(settings, args.name))
    log.info("agent_stopped", agent=args.name)
    return 0


async def serve(settings: Settings, name: str) -> None:
    """Serve until cancelled."""
    options = settings.section("agent", AgentSettings)
    token = settings.secret("catalog-token")
    async with (
        CatalogClient(options.catalog(settings), token) as catalog,
        CatalogClient(options.builtin_catalog(settings), token) as builtin,
        Session.from_settings(settings, user="agent") as session,
    ):
        facilities = known_facilities(settings)
        worker = Worker(
            name, session, facilities, _steps(settings, options, name, facilities, Catalogs(catalog, builtin))
        )
        await session.connected()
        slots = [await worker.open_slot(queues) for queues in _SLOTS]
        pings = await open_pings(session)
        async with asyncio.TaskGroup() as tasks:
            for slot in slots:
                tasks.create_task(worker.serve_slot(slot))
            tasks.create_task(answer_pings(session, pings, name))
            tasks.create_task(beat(session, name))
            log.info("agent_ready", agent=name)
            notify_ready(f"agent {name} takes commands")


def _steps(
    settings: Settings, options: AgentSettings, name: str, facilities: Facilities, catalogs: Catalogs
) -> Mapping[StepName, Step]:
    own = settings.data_dir / "agents" / name
    # Whatever an agent of this name left behind when it was killed.
    shutil.rmtree(own / "tmp", ignore_errors=True)
    home = own / "home"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    reduction = Reduction(
        facilities=facilities,
        python=options.python or sys.executable,
        time_limit_s=options.time_limit_s,
        kill_grace_s=options.kill_grace_s,
        scratch=own / "tmp",
        environment=_environment(settings, options, home),
    )
    return {
        StepName.CATALOG_RAW: partial(catalog_raw, catalogs),
        StepName.REDUCE: partial(reduce, reduction),
        StepName.CATALOG_REDUCED: partial(catalog_reduced, catalogs, facilities),
    }


def _environment(settings: Settings, options: AgentSettings, home: Path) -> Callable[[Work, Path], Mapping[str, str]]:
    secret = settings.secret("livedata-tokens")
    livedata, lifetime_s = options.livedata(settings), options.time_limit_s + _TOKEN_MARGIN_S

    def environment(work: Work, scratch: Path) -> Mapping[str, str]:
        publishing = publish_environment(livedata, secret, work.run, work.experiment, lifetime_s)
        return job_environment(os.environ, home, scratch, publishing)

    return environment
