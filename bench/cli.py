"""`python -m bench`: one command a scenario, all of them, and the report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import platformdirs
import typer

from bench.contestants import Contestant
from bench.load import Load, SeededLoad, TapeLoad
from bench.results import save
from bench.scenarios.api import ApiOptions, run_api
from bench.scenarios.backlog import BacklogOptions, run_backlog
from bench.scenarios.demo import DemoOptions, run_demo
from bench.scenarios.live import LiveOptions, run_live
from bench.scenarios.producer import ProducerOptions, run_producer
from bench.scenarios.steps import StepsOptions, run_steps

_HAS_A_TAIL: Final = 4_000_000
_MINUTE_S: Final = 60.0

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Measure Tapeline beside a plain consumer: seeded load, real services, output checked.

Examples:

    python -m bench all --quick

    python -m bench backlog --trades 3000000 --rounds 3

    python -m bench backlog --trades 1000000 --symbols 5000 --contestants tapeline

    python -m bench backlog --stream-option=--trigger='5 seconds'

    python -m bench live --rates 60 --after 10 && python -m bench report

Settings of the environment (TAPELINE_…) reach every command that is measured.
""",
)

Contestants = Annotated[
    str, typer.Option(help=f"In turn: {', '.join(c.value for c in Contestant)}.")
]
Rounds = Annotated[int, typer.Option(min=1, help="How often all take their turn.")]
StreamOptions = Annotated[
    list[str] | None, typer.Option(help="An option for `tapeline stream`; may be repeated.")
]


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
    contestants: Contestants = "tapeline,plain",
    rounds: Rounds = 3,
    stream_option: StreamOptions = None,
) -> None:
    """Trades wait in Kafka: rate and CPU seconds until they are in every table."""
    load: Load = SeededLoad(trades, symbols, seed)
    if tape is not None:
        load = TapeLoad(Path(os.environ["TAPELINE_TAPES"]) / f"{tape}.trades.csv.gz")
    options = BacklogOptions(
        [Contestant(name) for name in contestants.split(",")],
        rounds,
        tuple(stream_option or ()),
        tail=trades >= _HAS_A_TAIL,
    )
    given = {"load": load.name, "rounds": rounds, "stream_options": stream_option or []}
    _save("backlog", given, run_backlog(load, options))


@app.command()
def live(
    rates: Annotated[str, typer.Option(help="Trades a second, one after the other.")] = "60,500",
    after: Annotated[float, typer.Option(help="Minutes from the first bar on.")] = 10.0,
    window: Annotated[float, typer.Option(help="Minutes that are measured then.")] = 2.0,
    symbols: Annotated[int, typer.Option(help="Symbols, by Zipf's law.")] = 50,
    contestants: Contestants = "tapeline,plain",
    rounds: Rounds = 1,
    listeners: Annotated[int, typer.Option(help="On /v1/stream; the first one is timed.")] = 1,
    channels: Annotated[str, typer.Option(help="`bars`, or `bars,trades`.")] = "bars",
    behind: Annotated[
        int, typer.Option(help="Trades that wait in Kafka first; measured until they are stored.")
    ] = 0,
    stream_option: StreamOptions = None,
) -> None:
    """A live feed: frame at the socket → listener, → gold; cores and memory of every part."""
    runs = (
        result
        for rate in rates.split(",")
        for result in run_live(
            LiveOptions(
                float(rate),
                [Contestant(name) for name in contestants.split(",")],
                rounds,
                symbols,
                after * _MINUTE_S,
                window * _MINUTE_S,
                listeners,
                channels,
                behind,
                tuple(stream_option or ()),
            )
        )
    )
    given = {"after_min": after, "window_min": window, "symbols": symbols, "behind": behind}
    _save("behind" if behind else "live", given | {"stream_options": stream_option or []}, runs)


@app.command()
def producer(
    trades: Annotated[int, typer.Option(help="Trades in the frames.")] = 400_000,
    symbols: Annotated[int, typer.Option(help="Symbols among them.")] = 50,
    rounds: Rounds = 3,
) -> None:
    """Frames at the socket until their trades are in Kafka, on one core."""
    options = ProducerOptions(trades, symbols, rounds)
    _save("producer", {"trades": trades, "symbols": symbols}, run_producer(options))


@app.command()
def demo(
    minutes: Annotated[float, typer.Option(help="Until memory is taken.")] = 10.0,
    rounds: Rounds = 1,
) -> None:
    """`tapeline demo`: memory of everything, and how soon a second start is there."""
    _save("demo", {"minutes": minutes}, run_demo(DemoOptions(minutes, rounds)))


@app.command()
def steps(
    trades: Annotated[int, typer.Option(help="Messages of the one batch.")] = 1_000_000,
    symbols: Annotated[int, typer.Option(help="Symbols among them.")] = 50,
    runs: Annotated[int, typer.Option(min=1, help="The last one counts.")] = 3,
) -> None:
    """CPU seconds of each step of one large batch in a warm JVM."""
    options = StepsOptions(trades, symbols, runs)
    _save("steps", {"trades": trades, "symbols": symbols}, run_steps(options))


@app.command()
def api(
    seconds: Annotated[int, typer.Option(help="Of each kind of request.")] = 20,
    trades: Annotated[int, typer.Option(help="Whose bars are read.")] = 1_000_000,
) -> None:
    """Requests a second of the API, by wrk, beside the bare driver."""
    _save("api", {"seconds": seconds}, run_api(ApiOptions(seconds, trades=trades)))


@app.command(name="all")
def everything(
    quick: Annotated[bool, typer.Option(help="A smoke run of a few minutes.")] = False,
) -> None:
    """All scenarios that fit into about 20 minutes on two cores, and the report."""
    if quick:
        backlog(trades=100_000, contestants="tapeline,plain", rounds=1)
        live(rates="60", after=0.1, window=0.25, contestants="tapeline")
        producer(trades=50_000, rounds=1)
        return
    backlog(trades=1_500_000, contestants="tapeline,plain", rounds=3)
    backlog(trades=500_000, contestants="plain-driver,cassandra-limit", rounds=1)
    live(rates="60,500", after=1.0, window=1.0)
    producer()
    demo(minutes=1.0)
    steps(trades=500_000)
    report()


@app.command()
def report() -> None:
    """Write docs/benchmarks.md and its plots from the newest results of each scenario."""
    from bench.report import write_report  # noqa: PLC0415 - needs matplotlib

    typer.echo(f"Written: {write_report()}")


def _save(scenario: str, options: dict[str, Any], runs: Iterator[dict[str, Any]]) -> None:
    home = os.environ.get("TAPELINE_HOME") or platformdirs.user_data_dir("tapeline")
    typer.echo(f"{scenario}: {options}")
    typer.echo(f"Results: {save(scenario, options, runs, Path(home) / 'jars')}")
