"""Which processes make up the stack, as data: what each runs, and what has to be ready before."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from neutronflow.domain.beamline import BeamlineSettings
from neutronflow.foundation.broker.settings import BrokerSettings
from neutronflow.foundation.config import Settings
from neutronflow.instrument.stream.settings import StreamSettings
from neutronflow.stack.postgres import EmbeddedPostgres, launched
from neutronflow.store.settings import DatabaseSettings

AGENTS = ("autoreducer1", "autoreducer2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One child. ``kind`` task: it runs to its end, and is ready then."""

    name: str
    command: Callable[[], list[str]]
    needs: tuple[str, ...] = ()
    kind: Literal["service", "task"] = "service"
    #: Whether it is ready, where it cannot say so itself; called in a thread.
    probe: Callable[[], bool] | None = None
    before: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    #: Ports on which it listens.
    ports: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def stack_services(settings: Settings, *, prepared: bool) -> list[Service]:
    """The services in the order of their needs. ``prepared``: the databases are known to have this version's schema."""
    services: list[Service] = []
    external = settings.section("database", DatabaseSettings).external
    database: tuple[str, ...] = () if external else ("postgresql",)
    if not external:
        services.append(_postgresql(settings))
    workflow = catalog = livedata = database
    if not prepared:
        services += [
            _task("prepare-database", ["database", "prepare"], database),
            _task("prepare-catalog", ["catalog", "--migrate"], ("prepare-database",)),
            _task("prepare-livedata", ["livedata", "--migrate"], ("prepare-database",)),
        ]
        workflow, catalog, livedata = ("prepare-database",), ("prepare-catalog",), ("prepare-livedata",)
    broker: tuple[str, ...] = ()
    stomp = settings.section("broker", BrokerSettings)
    if not stomp.external:
        port = stomp.port if stomp.port is not None else settings.port("stomp")
        services.append(_service("broker", needs=(), ports=(port,)))
        broker = ("broker",)
    services += _beamline(settings, broker)
    return [
        *services,
        _service("monitor", needs=workflow, ports=(settings.port("monitor"),)),
        _service("manager", needs=(*workflow, *broker)),
        _service("translator", needs=broker, ports=(settings.port("translator"),)),
        _service("catalog", needs=catalog, ports=(settings.port("catalog"),)),
        _service("livedata", needs=livedata, ports=(settings.port("livedata"),)),
        _service("listener", needs=(*workflow, *broker)),
        *(_service(name, ["agent", "--name", name], needs=broker) for name in AGENTS),
    ]


def _beamline(settings: Settings, broker: tuple[str, ...]) -> list[Service]:
    """What stands at the beamline: the simulated one, or one whose instrument definition is there."""
    simulated = settings.section("beamline", BeamlineSettings).simulated
    geometry = settings.section("stream", StreamSettings).geometry or settings.data_dir / "beamline" / "geometry.xml"
    if not simulated and not geometry.exists():
        return []
    prepared: tuple[str, ...] = ()
    services = []
    if simulated:
        prepared = ("prepare-beamline",)
        ports = (settings.port("detector_source"), settings.port("slow_control_source"))
        services += [
            _task("prepare-beamline", ["simulator", "--prepare"], ()),
            # Topics keep nothing: whoever is to hear of the first run has to be there.
            _service("simulator", needs=("prepare-beamline", "listener", "dasmon", "livereduce"), ports=ports),
        ]
    ports = (settings.port("live_stream"), settings.port("run_control"))
    return [
        *services,
        _service("stream", needs=(*prepared, *broker), ports=ports),
        _service("dasmon", needs=(*broker, "listener")),
        _service("livereduce", needs=()),
    ]


def _postgresql(settings: Settings) -> Service:
    server = EmbeddedPostgres(settings)
    return Service(
        name="postgresql",
        command=server.command,
        before=server.prepare,
        probe=server.answers,
        # Fast stop: SIGTERM would wait for every client to go.
        stop_signal=signal.SIGINT,
        ports=(server.port,),
    )


def _service(
    name: str, words: list[str] | None = None, *, needs: tuple[str, ...], ports: tuple[int, ...] = ()
) -> Service:
    argv = [sys.executable, "-m", "neutronflow.cli", *(words or [name])]
    return Service(name=name, command=lambda: launched(argv), needs=needs, ports=ports)


def _task(name: str, words: list[str], needs: tuple[str, ...]) -> Service:
    argv = [sys.executable, "-m", "neutronflow.cli", *words]
    return Service(name=name, command=lambda: launched(argv), needs=needs, kind="task")
