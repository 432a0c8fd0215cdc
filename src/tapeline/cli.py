"""The `tapeline` command: each subcommand is a function of its own module."""

from __future__ import annotations

import typer

from tapeline import __version__
from tapeline.api.main import api
from tapeline.audit.command import audit
from tapeline.bars_command import bars
from tapeline.command import run_program
from tapeline.consumer.main import stream
from tapeline.demo import demo
from tapeline.export.command import export
from tapeline.gaps_command import gaps
from tapeline.init_command import init
from tapeline.producer.main import produce
from tapeline.rebuild.main import rebuild
from tapeline.reference_commands import metrics, settings
from tapeline.replay import replay
from tapeline.simulator.main import simulate
from tapeline.stack_commands import down, up
from tapeline.status.command import status

app = typer.Typer(
    help="Real-time market bars you can trust: Finnhub, Kafka, Spark and Cassandra.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(demo, replay, bars, export, gaps, api, up, down, status, init, produce, stream, simulate),
    *(settings, metrics),
    *(rebuild, audit),
):
    app.command()(_command)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the `tapeline` command."""
    run_program(app)
