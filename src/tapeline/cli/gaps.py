"""`tapeline gaps`: when the feed was not there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tapeline.cli.options import (
    Keyspace,
    TableOrJson,
    format_option,
    from_option,
    to_option,
    write_json,
)
from tapeline.local.keyspace import open_keyspace
from tapeline.model.gap import Gap
from tapeline.model.times import iso_of_micros, time_span
from tapeline.program.settings import load_settings

_TIME_WIDTH: Final = len("2026-11-20T14:35:00Z")
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
    with open_keyspace(load_settings().with_target(keyspace=keyspace)) as client:
        found = sorted(client.gaps(first, last), key=_started)
    rows = [_row(gap) for gap in found]
    if output_format is TableOrJson.JSON:
        write_json(rows)
        return
    if not rows:
        typer.echo("No gap was reported in that time.")
        return
    table = Table()
    for name in ("from", "to", "seconds", "why", "producer", "symbols"):
        table.add_column(
            name,
            justify="right" if name == "seconds" else "left",
            min_width=_TIME_WIDTH if name in {"from", "to"} else None,
        )
    for gap in found:
        row = _row(gap)
        more = len(gap.symbols) - _SYMBOLS_SHOWN
        shown = ", ".join(gap.symbols[:_SYMBOLS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        if gap.healed:
            shown += f"{' (' if shown else '('}{len(gap.healed)} healed)"
        table.add_row(
            str(row["from"]),
            str(row["to"] or "it lasts"),
            f"{row['seconds']:,}" if row["seconds"] is not None else "",
            gap.kind.value,
            gap.producer_id,
            shown,
        )
    Console(markup=False).print(table)


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
