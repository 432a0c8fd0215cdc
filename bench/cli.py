"""`python -m bench`: one command a scenario, and the report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

import platformdirs
import typer

from bench.contestants import Contestant
from bench.load import Load, SeededLoad, TapeLoad
from bench.results import save
from bench.scenarios.backlog import BacklogOptions, run_backlog

_HAS_A_TAIL: Final = 4_000_000

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Measure Tapeline beside a plain consumer: seeded load, real services, output checked.

Examples:

    python -m bench backlog --trades 3000000 --rounds 3

    python -m bench backlog --trades 1000000 --symbols 5000 --contestants tapeline

    PYTHONPATH=/other/checkout/src python -m bench backlog --stream-option=--trigger='5 seconds'
""",
)


@app.callback()
def _main() -> None:
    """Measure Tapeline beside a plain consumer."""


@app.command()
def backlog(
    trades: Annotated[int, typer.Option(help="Messages in Kafka.")] = 3_000_000,
    symbols: Annotated[int, typer.Option(help="Symbols among them, by Zipf's law.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the load.")] = 1,
    tape: Annotated[
        str | None, typer.Option(help="A tape of the folder TAPELINE_TAPES instead, by name.")
    ] = None,
    contestants: Annotated[str, typer.Option(help="Who, in turn.")] = "tapeline,plain",
    rounds: Annotated[int, typer.Option(help="How often all take their turn.")] = 3,
    stream_option: Annotated[
        list[str] | None, typer.Option(help="An option for `tapeline stream`; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="A smoke run: 200,000 trades, one round.")] = False,
) -> None:
    """Trades wait in Kafka: rate and CPU seconds until they are in every table."""
    load: Load = SeededLoad(trades, symbols, seed)
    if tape is not None:
        load = TapeLoad(Path(os.environ["TAPELINE_TAPES"]) / f"{tape}.trades.csv.gz")
    elif quick:
        load, rounds = SeededLoad(200_000, symbols, seed), 1
    options = BacklogOptions(
        [Contestant(name) for name in contestants.split(",")],
        rounds,
        tuple(stream_option or ()),
        tail=trades >= _HAS_A_TAIL,
    )
    given = {"load": load.name, "rounds": rounds, "stream_options": stream_option or []}
    _save("backlog", given, run_backlog(load, options))


def _save(scenario: str, options: dict[str, Any], runs: Any) -> None:
    jars = Path(os.environ.get("TAPELINE_HOME") or platformdirs.user_data_dir("tapeline")) / "jars"
    path = save(scenario, options, runs, jars)
    typer.echo(f"Results: {path}")
