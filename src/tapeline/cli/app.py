"""The `tapeline` command: each subcommand is a function of its own module.

A module is loaded when its command is called, so that help and the quick commands need not wait
for Spark or a web server.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

import tapeline
from tapeline.program.command import command_of, run_program

COMMANDS: Final = {
    "demo": (
        "tapeline.cli.demo",
        "Start everything and show live bars of a simulated market, or of a real one.",
    ),
    "replay": (
        "tapeline.cli.replay",
        "Send a tape through simulator, producer, Kafka, Spark and Cassandra.",
    ),
    "bars": ("tapeline.cli.bars", "Print or save bars, or watch them live; times are UTC."),
    "export": (
        "tapeline.cli.export",
        "Write bars or trades into OUTPUT/date=DAY/SYMBOL.parquet, a file a symbol and UTC day.",
    ),
    "gaps": ("tapeline.cli.gaps", "Show when a producer had no feed, and why; times are UTC."),
    "heal": (
        "tapeline.cli.heal",
        "Fetch from an exchange's history what its feed has missed, where trades have numbers.",
    ),
    "watch": (
        "tapeline.cli.watch",
        "Tell a webhook when something happens: a final bar, a price, a gap, a silent symbol.",
    ),
    "trace": (
        "tapeline.cli.trace",
        "Say what became of a trade: its frame, Kafka, bronze, silver and bars.",
    ),
    "api": ("tapeline.api.main", "Serve bars over HTTP, live push, and a page that draws them."),
    "up": (
        "tapeline.cli.stack",
        "Start the local Kafka and Cassandra and leave them running.",
    ),
    "down": ("tapeline.cli.stack", "Stop the local Kafka and Cassandra; their data stays."),
    "status": (
        "tapeline.cli.status",
        "Say what runs, how far it is and what is wrong; exit code 0 if all is well, 1 if not.",
    ),
    "doctor": (
        "tapeline.cli.doctor",
        "Check what may be wrong with machine, settings and services, and say what to do.",
    ),
    "init": (
        "tapeline.cli.init",
        "Create keyspace, tables and topics; running it again changes nothing.",
    ),
    "produce": (
        "tapeline.producer.main",
        "Read the feed and write every trade to Kafka until stopped.",
    ),
    "symbols": (
        "tapeline.cli.symbols",
        "List, add or remove the symbols of producers that run, without a gap for the others.",
    ),
    "stream": ("tapeline.consumer.main", "Run the layers from Kafka to Cassandra until stopped."),
    "simulate": (
        "tapeline.simulator.main",
        "Serve Finnhub's protocol, from a tape or a random market.",
    ),
    "settings": (
        "tapeline.cli.reference",
        "Print every setting: its environment variable, default, unit and meaning.",
    ),
    "metrics": (
        "tapeline.cli.reference",
        "Print every metric that is exported: its kind, unit, labels and meaning.",
    ),
    "rebuild": (
        "tapeline.rebuild.main",
        "Make silver again from bronze, or bars from silver, while the stream may be running.",
    ),
    "dead-letters": (
        "tapeline.cli.dead_letters",
        "List, show or send again what was refused: frames of the feed, messages of the topic.",
    ),
    "audit": (
        "tapeline.cli.audit",
        "Check every layer against the one before it; exit code 1 if anything differs.",
    ),
}
"""Each command's module, and the first line of its help."""


class LazyCommands(TyperGroup):
    """Knows the names and first lines of all commands, and loads the one that is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        listed = {name: TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()}
        self.commands = {**listed, **self.commands}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command to run."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


def load_command(name: str) -> Any:
    """Import a command's module and return the command."""
    function = getattr(import_module(COMMANDS[name][0]), name.replace("-", "_"))
    return command_of(function, name)


app = typer.Typer(
    cls=LazyCommands,
    help="Real-time market bars you can trust: Finnhub, Kafka, Spark and Cassandra.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


@app.callback()
def _group(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Real-time market bars you can trust: Finnhub, Kafka, Spark and Cassandra."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(tapeline.__version__)


def main() -> None:
    """Run the `tapeline` command."""
    run_program(app)
