"""Write what an audit found: tables for people, JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from tapeline.audit.findings import Difference, Findings
from tapeline.model.texts import counted
from tapeline.model.times import iso

SHOWN_DIFFERENCES: Final = 50


def print_report(findings: Findings, console: Console) -> None:
    """Print the summary, what could not be audited, and the first differences."""
    console.print(_summary(findings))
    for (pair, what), missed in findings.unaudited.items():
        span = f"{iso(missed.first)} to {iso(missed.last)}"
        noun, _, rest = what.partition(" ")
        some = counted(missed.count, noun.removesuffix("s"), noun)
        line = f"Not auditable, {pair.value}: {some} {rest}, {span}."
        console.print(line, soft_wrap=True)
    shown = findings.differences[:SHOWN_DIFFERENCES]
    if shown:
        console.print(_table(shown))
    if findings.total_differences > len(shown):
        console.print(f"… and {findings.total_differences - len(shown):,} more.")


def json_report(findings: Findings) -> str:
    """Return the same as JSON, with every difference that was kept."""
    report = {
        "equal": findings.total_differences == 0,
        "layers": [{"layers": pair.value, **asdict(count)} for pair, count in findings.in_order()],
        "not_auditable": [
            {
                "layers": pair.value,
                "what": what,
                "count": missed.count,
                "first": iso(missed.first),
                "last": iso(missed.last),
            }
            for (pair, what), missed in findings.unaudited.items()
        ],
        "differences": [_plain(difference) for difference in findings.differences],
    }
    return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _summary(findings: Findings) -> Table:
    table = Table(title="Audit")
    table.add_column("layers", no_wrap=True)
    for name in ("checked", "differences", "not yet", "not auditable"):
        table.add_column(name, justify="right")
    for pair, count in findings.in_order():
        style = "red" if count.differences else None
        table.add_row(pair.value, *(f"{n:,}" for n in asdict(count).values()), style=style)
    return table


def _table(differences: list[Difference]) -> Table:
    table = Table(title="Differences")
    for name in ("layers", "bar", "trade", "message", "what", "expected", "found"):
        table.add_column(name, overflow="fold")
    for d in differences:
        bar = f"{d.symbol} {d.interval.value} {iso(d.window_start)}" if d.window_start else ""
        trade = f"{iso(d.trade.event_time)} id {d.trade.trade_id}" if d.trade else ""
        message = (
            f"partition {d.message.kafka_partition} offset {d.message.kafka_offset}"
            if d.message
            else ""
        )
        table.add_row(d.pair.value, bar, trade, message, d.what, d.expected, d.found)
    return table


def _plain(d: Difference) -> dict[str, Any]:
    return {
        "layers": d.pair.value,
        "symbol": d.symbol,
        "interval": d.interval.value,
        "window_start": iso(d.window_start) if d.window_start else None,
        "what": d.what,
        "expected": d.expected,
        "found": d.found,
        "trade": {"event_time": iso(d.trade.event_time), "trade_id": d.trade.trade_id}
        if d.trade
        else None,
        "message": asdict(d.message) if d.message else None,
    }
