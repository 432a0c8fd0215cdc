"""`tapeline gaps`: when the feed was not there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from tapeline.cli.options import (
    Keyspace,
    TableOrJson,
    format_option,
    from_option,
    to_option,
    using,
    write_json,
)
from tapeline.local.keyspace import open_keyspace
from tapeline.model.gap import Gap
from tapeline.model.times import iso_of_micros, time_span
from tapeline.program.settings import load_settings

_WHOLE_WIDTH: Final = 500
_SYMBOLS_SHOWN: Final = 3


def gaps(
    start: Annotated[datetime | None, from_option("UTC; a week before --to.")] = None,
    end: Annotated[datetime | None, to_option("UTC; now by default.")] = None,
    keyspace: Keyspace = None,
    output_format: Annotated[TableOrJson, format_option("How to write them.")] = TableOrJson.TABLE,
) -> None:
    """Show when a producer had no feed, and why; times are UTC.

    A bar in such a time is not complete unless another producer covered it.

    Example: tapeline gaps --from 2026-11-20
    """
    first, last = time_span(start, end)
    last = last or datetime.now(timezone.utc)
    first = first or last - timedelta(days=7)
    settings = load_settings().with_target(keyspace=keyspace)
    with open_keyspace(settings, using(settings)) as client:
        found = sorted(client.gaps(first, last), key=_started)
    if output_format is TableOrJson.JSON:
        write_json([_row(gap) for gap in found])
    elif found:
        print_gaps(found, Console(markup=False))
    else:
        typer.echo("No gap was reported in that time.")


def print_gaps(gaps: Sequence[Gap], console: Console) -> None:
    """Print gaps as a table, or two lines each on a terminal that is too narrow for it.

    What is no terminal has room for everything.
    """
    if not console.is_terminal:
        console.width = _WHOLE_WIDTH
    rows = [_cells(gap) for gap in gaps]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("from", "to", "seconds", "why", "producer", "symbols"):
        table.add_column(name, justify="right" if name == "seconds" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    roomy = console.options.update(width=_WHOLE_WIDTH)
    if Measurement.get(console, roomy, table).maximum <= console.width:
        console.print(table)
        return
    for start, end, seconds, why, producer, symbols in rows:
        lasted = f" to {end}, {seconds} s" if seconds else f", {end}"
        for line in (f"{start}{lasted}: {why}", f"  {producer}: {symbols}"):
            console.print(line, highlight=False, soft_wrap=True)


def _cells(gap: Gap) -> tuple[str, str, str, str, str, str]:
    row = _row(gap)
    more = len(gap.symbols) - _SYMBOLS_SHOWN
    shown = ", ".join(gap.symbols[:_SYMBOLS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    if gap.healed:
        shown += f"{' (' if shown else '('}{len(gap.healed)} healed)"
    return (
        str(row["from"]),
        str(row["to"] or "it lasts"),
        f"{row['seconds']:,}" if row["seconds"] is not None else "",
        gap.kind.value,
        gap.producer_id,
        shown,
    )


def _started(gap: Gap) -> int:
    return gap.started_us


def _row(gap: Gap) -> dict[str, object]:
    ended_us = gap.ended_us
    return {
        "from": iso_of_micros(gap.started_us),
        "to": None if ended_us is None else iso_of_micros(ended_us),
        "seconds": None if ended_us is None else round((ended_us - gap.started_us) / 1e6, 1),
        "kind": gap.kind.value,
        "marks_bars": gap.kind.marks_bars,
        "producer": gap.producer_id,
        "topic": gap.topic,
        "symbols": list(gap.symbols),
        "healed": list(gap.healed),
    }
