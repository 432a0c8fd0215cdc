"""`tapeline symbols`: what running producers receive, and changing it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tapeline.cli.options import TableOrJson, Topic, format_option, using, write_json
from tapeline.feeds.known import Source
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.symbol_changes import send_changes
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.model.errors import UsageError
from tapeline.model.symbol_change import SymbolChange
from tapeline.model.symbols import parse_symbols
from tapeline.model.times import now_us
from tapeline.program.settings import load_settings
from tapeline.status.symbols import SymbolRow, SymbolState, changes_to, symbol_rows

_ANSWERED_S: Final = 15.0
"""A producer looks every second, and waits some seconds for what the feed refuses."""
_LOOK_S: Final = 0.5


class Action(str, Enum):
    """What to do with symbols."""

    LIST = "list"
    ADD = "add"
    REMOVE = "remove"


def symbols(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    names: Annotated[
        str | None, typer.Argument(help="Comma-separated, as COINBASE:BTC-USD,COINBASE:ETH-USD.")
    ] = None,
    source: Annotated[
        Source | None,
        typer.Option(help="Whose symbols they are; by default the feed that runs and has such."),
    ] = None,
    topic: Topic = None,
    output_format: Annotated[TableOrJson, format_option("How to write them.")] = TableOrJson.TABLE,
) -> None:
    """List, add or remove the symbols of producers that run, without a gap for the others.

    A change is kept: it counts over the --symbols of the next start too. Where no producer of the
    source runs, the next one takes it.

    Examples:
      tapeline symbols list

      tapeline symbols add COINBASE:SOL-USD

      tapeline symbols remove AAPL,MSFT
    """
    if (names is None) != (action is Action.LIST):
        problem = "lists all: leave the names out" if names else "needs names, as AAPL,MSFT"
        message = f"`tapeline symbols {action.value}` {problem}."
        raise UsageError(message)
    wanted = () if names is None else parse_symbols(names)
    settings = load_settings().with_target(topic=topic)
    servers, kafka = using(settings).bootstrap_servers, settings.kafka
    topic_id = topic_id_of(topic_admin(servers, kafka), kafka.topic)
    with closing(FeedView(servers, kafka, topic_id)) as view:
        feed = view.snapshot(datetime.now(timezone.utc))
        rows = symbol_rows(feed)
        if action is not Action.LIST:
            changes = changes_to(
                feed,
                kafka.topic,
                wanted,
                source and source.value,
                now_us(),
                is_wanted=action is Action.ADD,
            )
            send_changes(servers, kafka, changes)
            rows = _taken(view, changes)
    if output_format is TableOrJson.JSON:
        write_json([asdict(row) for row in rows])
    elif rows:
        Console(markup=False).print(_table(rows))
    elif action is Action.LIST:
        typer.echo(_nobody(kafka.topic))


def _nobody(topic: str) -> str:
    return (
        f"No producer of a live feed runs on topic {topic}: start one with `tapeline produce`, or "
        "look at another topic with --topic."
    )


def _taken(view: FeedView, changes: Sequence[SymbolChange]) -> list[SymbolRow]:
    """Wait until producers have taken changes, and say what became of each; return the rows."""
    deadline_s = time.monotonic() + _ANSWERED_S
    while True:
        rows = symbol_rows(view.snapshot(datetime.now(timezone.utc)))
        open_ones = [change for change in changes if not _is_done(change, rows)]
        sources = {row.source for row in rows}
        is_late = time.monotonic() > deadline_s
        if is_late or not [change for change in open_ones if change.source in sources]:
            break
        time.sleep(_LOOK_S)
    for change in changes:
        typer.echo(_outcome(change, rows, is_done=change not in open_ones), err=True)
    changed = {change.symbol for change in changes}
    return [row for row in rows if row.symbol in changed]


def _is_done(change: SymbolChange, rows: Sequence[SymbolRow]) -> bool:
    found = [r for r in rows if (r.symbol, r.source) == (change.symbol, change.source)]
    if not change.is_wanted:
        return not found
    return bool(found) and all(row.state is SymbolState.RECEIVED for row in found)


def _outcome(change: SymbolChange, rows: Sequence[SymbolRow], *, is_done: bool) -> str:
    symbol, source = change.symbol, change.source
    if is_done and change.is_wanted:
        return f"{symbol} is received from {source}."
    if not any(row.source == source for row in rows):
        done = "asks for" if change.is_wanted else "leaves out"
        return (
            f"No producer of {source} runs on topic {change.topic}. The change is kept: the next "
            f"one there {done} {symbol}. For another topic give --topic."
        )
    if is_done:
        return f"{symbol} is no longer received from {source}."
    if not change.is_wanted:
        return f"{symbol} is still received from {source}: it is all that its producer has."
    return f"{symbol} is not received yet: see `tapeline symbols list` and the producer's log."


def _table(rows: Sequence[SymbolRow]) -> Table:
    table = Table()
    for name in ("symbol", "source", "state", "producer"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.symbol, row.source, row.state.value, row.producer)
    return table
