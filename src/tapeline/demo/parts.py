"""The parts of the demo: what is started when.

Nothing but Kafka, feed, producer and API stands between the command and a moving candle.
Cassandra and Spark start beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from rich.console import Console
from rich.text import Text

from tapeline.demo.history import is_empty, play_history
from tapeline.demo.market import Market
from tapeline.kafka.topics import create_topics, topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.local.services import running_services
from tapeline.local.stack import StartHooks
from tapeline.local.supervisor import Child, child_process
from tapeline.model.texts import counted
from tapeline.program.settings import API_PORT, ENV_DELIMITER, ENV_PREFIX, Settings
from tapeline.simulator.child import simulated_feed

# glibc gives each thread an arena of its own, of which little comes back.
_FEW_ARENAS: Final = {"MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True, slots=True)
class DemoParts:
    """The running demo: the address of its page, its market, and its commands."""

    page: str
    market: Market
    children: Sequence[Child]


@contextmanager
def running_demo(settings: Settings, market: Market, console: Console) -> Iterator[DemoParts]:
    """Run all parts for a while; topic and keyspace of the settings are the market's."""
    target = ("--topic", market.target, "--keyspace", market.target)
    port = free_port(API_PORT)
    page = f"http://{LOOPBACK}:{port}/"
    environment = {**_FEW_ARENAS, f"{ENV_PREFIX}PROFILE": settings.profile.value}
    # Left in this order: the commands end while the services still answer.
    with ExitStack() as services, ExitStack() as commands:

        def start_held(*arguments: str, **more: str) -> Child:
            every = {**environment, **more}
            return commands.enter_context(
                child_process(arguments, settings.home, every, is_held=True)
            )

        children = []
        to_feed: Mapping[str, str] = {}
        if market.is_simulated:
            feed = commands.enter_context(simulated_feed(settings.home))
            children.append(feed.child)
            to_feed = feed.environment
        produce = ("produce", "--source", market.source, "--topic", market.target)
        producing = start_held(*produce, "--symbols", ",".join(market.symbols), **to_feed)
        serving = start_held("api", *target, "--port", str(port), **_changes(settings, market))
        children += [producing, serving]

        def start_spark() -> None:
            children.append(start_held("stream", *target))

        def go_live() -> None:
            servers = find_endpoints(settings).bootstrap_servers
            admin = topic_admin(servers, settings.kafka)
            create_topics(admin, settings.kafka)
            if market.is_simulated and is_empty(settings, servers):
                topic_id, now = topic_id_of(admin, market.target), datetime.now(timezone.utc)
                trades = play_history(settings, servers, topic_id, now)
                simulated = counted(trades, "simulated trade")
                console.print(f"The market's last hours are there: {simulated}.")
            producing.release()
            serving.release()
            link = (page, f"bold link {page}")
            console.print(Text.assemble("\nThe bars are live at ", link, "\n"))

        hooks = StartHooks(start_spark, go_live, given_up=commands.close)
        endpoints = services.enter_context(running_services(settings, console, hooks))
        with open_keyspace(settings, endpoints, needs_tables=False) as client:
            client.create_schema()
        children[-1].release()
        yield DemoParts(page, market, tuple(children))


def _changes(settings: Settings, market: Market) -> dict[str, str]:
    """Return who may change the symbols of a market; one that is simulated has no others."""
    is_open = not market.is_simulated and not settings.api.symbol_changes
    return {f"{ENV_PREFIX}API{ENV_DELIMITER}SYMBOL_CHANGES": "local"} if is_open else {}
