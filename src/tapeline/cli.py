"""The `tapeline` command: each subcommand is a function of its own module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console

from tapeline import __version__
from tapeline.errors import TapelineError, UsageError

app = typer.Typer(
    help="Real-time market bars you can trust: Finnhub, Kafka, Spark and Cassandra.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run_command(command: Callable[..., Any]) -> None:
    """Run one command as a program of its own."""
    single = typer.Typer(pretty_exceptions_enable=False)
    single.command()(command)
    _run(single)


def main() -> None:
    """Run the `tapeline` command."""
    from tapeline.bars_command import bars
    from tapeline.consumer.main import stream
    from tapeline.demo import demo
    from tapeline.init_command import init
    from tapeline.producer.main import produce
    from tapeline.replay import replay
    from tapeline.simulator.main import simulate
    from tapeline.stack_commands import down, status, up

    for command in (demo, replay, bars, up, down, status, init, produce, stream, simulate):
        app.command()(command)
    app.command("version")(_version)
    _run(app)


def _version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _run(program: typer.Typer) -> None:
    try:
        program()
    except TapelineError as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
        sys.exit(error.exit_code)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        typer.echo(f"Error: setting {field}: {first['msg']}.", err=True)
        sys.exit(UsageError.exit_code)
