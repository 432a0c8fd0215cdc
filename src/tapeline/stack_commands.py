"""`tapeline up`, `down` and `status`: the local Kafka and Cassandra."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack, read_state
from tapeline.settings import load_settings


def up() -> None:
    """Start the local Kafka and Cassandra and leave them running.

    Example: tapeline up && tapeline init
    """
    settings = load_settings()
    console = Console()
    LocalStack(Home(settings.home), console).up(keep=True)
    console.print(f"Running: {find_endpoints(settings)}", highlight=False)


def down() -> None:
    """Stop the local Kafka and Cassandra; their data stays.

    Example: tapeline down
    """
    settings = load_settings()
    console = Console()
    stopped = LocalStack(Home(settings.home), console).down()
    console.print(f"Stopped: {', '.join(stopped) if stopped else 'nothing was running'}.")


def status() -> None:
    """Say what runs, where, and which services a command would use.

    Example: tapeline status
    """
    settings = load_settings()
    console = Console()
    home = Home(settings.home)
    table = Table(title=f"Local stack in {home.root}")
    for column in ("service", "process", "port", "memory"):
        table.add_column(column)
    for service in read_state(home).services:
        process = service.process()
        if process is not None:
            memory_mb = process.memory_info().rss // 2**20
            table.add_row(service.name, str(service.pid), str(service.port), f"{memory_mb} MB")
    console.print(table if table.row_count else "The local stack is not running: `tapeline up`.")
    console.print(f"Commands use {find_endpoints(settings)}", highlight=False)
