"""Have a Kafka and a Cassandra for a while, starting the local stack if there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from tapeline.local.discovery import DEFAULT_KAFKA_PORT, Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.local.service import accepts_connections
from tapeline.local.stack import LocalStack, StartHooks
from tapeline.local.state import read_state
from tapeline.program.settings import Settings


@contextmanager
def running_services(
    settings: Settings, console: Console, hooks: StartHooks | None = None
) -> Iterator[Endpoints]:
    """Yield the services that are set or found; else those of a local stack of our own.

    A stack that `tapeline up` keeps is left running afterwards.
    """
    hooks = hooks or StartHooks()
    if _needs_local_stack(settings):
        with LocalStack(Home(settings.home), console, settings.profile).running(hooks):
            yield _announce(settings, console)
        return
    hooks.all_started()
    hooks.kafka_answers()
    yield _announce(settings, console)


def _announce(settings: Settings, console: Console) -> Endpoints:
    endpoints = find_endpoints(settings)
    console.print(f"Using {endpoints}", highlight=False)
    return endpoints


def _needs_local_stack(settings: Settings) -> bool:
    if settings.kafka.bootstrap_servers and settings.cassandra.host:
        return False
    if read_state(Home(settings.home)).services:
        return True
    return not all(accepts_connections(p) for p in (DEFAULT_KAFKA_PORT, settings.cassandra.port))
