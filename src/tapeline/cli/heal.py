"""`tapeline heal`: fetch what a feed has missed, where its trades have numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from tapeline.cli.options import Keyspace, Topic, from_option, progress_on, to_option
from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import PUBLIC
from tapeline.heal.job import SymbolResult
from tapeline.heal.run import Wanted, numbered_feed, run_heal
from tapeline.model.errors import UsageError
from tapeline.model.gap import Gap
from tapeline.model.symbols import parse_symbols
from tapeline.model.texts import counted
from tapeline.model.times import from_millis, iso, iso_of_micros, time_span, within_reach
from tapeline.program.settings import load_settings


def heal(
    start: Annotated[datetime, from_option("The time to look at begins then, UTC.")],
    end: Annotated[datetime | None, to_option("It ends before this, UTC; now.")] = None,
    source: Annotated[
        str | None, typer.Option(help=f"{', '.join(PUBLIC)}; all of them by default.")
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(help="In the feed's names, with commas; all that have a gap in that time."),
    ] = None,
    keyspace: Keyspace = None,
    topic: Topic = None,
) -> None:
    """Fetch from an exchange's history what its feed has missed, where trades have numbers.

    It goes the way of all trades. A gap is reported healed once every number of it is there, and
    its bars become complete in their next revision. A hole that begins or ends outside the time is
    fetched whole. What cannot be fetched stays a gap; exit code 1 then.

    Example: tapeline heal --from 2026-11-20T14:00 --to 2026-11-20T15:00

    Example: tapeline heal --source coinbase --symbols BTC-USD --from 2026-11-20
    """
    _, last = time_span(start, end)
    feed = None if source is None else numbered_feed(source)
    names: tuple[str, ...] = ()
    if symbols is not None:
        if feed is None:
            message = f"Say with --source whose symbols these are: {', '.join(PUBLIC)}."
            raise UsageError(message)
        names = our_symbols(feed, parse_symbols(symbols))
    settings = load_settings().with_target(topic=topic, keyspace=keyspace)
    wanted = Wanted(within_reach(start), last, feed, names)
    with progress_on(Console(stderr=True, markup=False)) as progress:
        results = run_heal(settings, wanted, progress)
    for result in results:
        for line in _lines(result):
            typer.echo(line)
    if not results:
        typer.echo("No gap of a feed with numbers is reported in that time.")
    if any(result.healed for result in results):
        typer.echo("Bars become complete once `tapeline stream` has the trades.")
    if not all(result.is_whole for result in results):
        raise typer.Exit(1)


def _lines(result: SymbolResult) -> Iterator[str]:
    """Yield what became of one symbol."""
    yield f"{result.symbol}: {counted(result.fetched, 'trade')} fetched"
    for gap in result.healed:
        yield f"  healed   {_gap(gap)}"
    for hole, reason in result.holes:
        between = f"{iso(from_millis(hole.after_ms))} to {iso(from_millis(hole.before_ms))}"
        numbers = f"numbers {hole.after_id + 1} to {hole.before_id - 1}"
        yield f"  missing  {between}, {numbers} or some of them: {reason}"
    for gap, reason in result.gaps:
        yield f"  a gap    {_gap(gap)}: {reason}"


def _gap(gap: Gap) -> str:
    end = "now" if gap.ended_us is None else iso_of_micros(gap.ended_us)
    return f"{iso_of_micros(gap.started_us)} to {end} ({gap.kind.value})"
