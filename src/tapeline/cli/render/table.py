"""Bars as a table on a terminal: the columns that fit, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tapeline.model.bar import state_text
from tapeline.model.symbols import some_of
from tapeline.model.times import iso

_WHOLE_WIDTH: Final = 500
_LEAST_NEEDED: Final = ("trades", "open", "volume", "low", "high")
"""What a narrow terminal does without, the first first."""
_Row = dict[str, Any]


def print_bars(table: pa.Table, console: Console, *, detail: bool) -> None:
    """Print bars, one a line, if there are any; what does not fit a terminal is left out.

    Args:
        table: with the columns of `bars_schema`.
        console: what is no terminal has room for everything.
        detail: every column, however wide: a narrow terminal wraps its lines.
    """
    if not table.num_rows:
        return
    if detail or not console.is_terminal:
        console.width = _WHOLE_WIDTH
    if detail:
        console.print(_every_column(table))
        return
    rows = table.to_pylist()
    left_out: list[str] = []
    for name in ("", *_LEAST_NEEDED):
        left_out += [name] if name else []
        drawn = _short(rows, left_out)
        roomy = console.options.update(width=_WHOLE_WIDTH)
        if Measurement.get(console, roomy, drawn).maximum <= console.width:
            break
    console.print(drawn)
    legend = _legend(rows)
    if legend and console.is_terminal:
        console.print(Text(legend, "dim"), soft_wrap=True)
    if left_out:
        console.print(
            Text(f"Not shown for want of room: {', '.join(left_out)}.", "dim"), soft_wrap=True
        )


def _short(rows: Sequence[_Row], left_out: Sequence[str]) -> Table:
    when, show_time = _time_of(rows)
    cells: dict[str, Callable[[_Row], str]] = {
        "symbol": lambda row: str(row["symbol"]),
        when: lambda row: show_time(row["window_start"]),
        "open": lambda row: _price(row["open"]),
        "high": lambda row: _price(row["high"]),
        "low": lambda row: _price(row["low"]),
        "close": lambda row: _price(row["close"]),
        "volume": lambda row: f"{float(row['volume']):.7g}",
        "trades": lambda row: str(row["trade_count"]),
        "state": _state,
    }
    if any("sources" in row for row in rows):
        cells["sources"] = lambda row: row["sources"] or ""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for name in left_out:
        del cells[name]
    for name in cells:
        is_text = name in {"symbol", when, "state", "sources"}
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell(row) for cell in cells.values()))
    return table


def _time_of(rows: Sequence[_Row]) -> tuple[str, Callable[[datetime], str]]:
    """Return the heading of the starts, with their year if they share one, and how to write one."""
    starts = [row["window_start"] for row in rows]
    clock = "%H:%M" if all(not (s.second or s.microsecond) for s in starts) else "%H:%M:%S"
    years = {s.year for s in starts}
    if len(years) == 1:
        return f"{years.pop()} UTC", lambda s: f"{s:%m-%d} {s:{clock}}"
    return "start UTC", lambda s: f"{s:%Y-%m-%d} {s:{clock}}"


def _price(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def _state(row: _Row) -> str:
    """Return the state in short, with a `!` if the bar is incomplete."""
    state = state_text(row["revision"], is_final=row["is_final"])
    for word, short in (("provisional", "prov."), ("revision", "rev")):
        state = state.replace(word, short)
    return f"{state} !" if row["is_final"] and row["is_complete"] is False else state


def _legend(rows: Sequence[_Row]) -> str:
    """Explain the marks that are there."""
    marks = {
        "prov.: provisional, later trades still change it": not all(r["is_final"] for r in rows),
        "rev N: final, revised since": any(r["revision"] > 1 for r in rows),
        "!: incomplete, see `tapeline gaps`": any(r["is_complete"] is False for r in rows),
    }
    return "; ".join(text for text, is_there in marks.items() if is_there)


def _every_column(table: pa.Table) -> Table:
    drawn = Table()
    for field in table.schema:
        is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        drawn.add_column(field.name, justify="right" if is_number else "left", no_wrap=True)
    for row in table.to_pylist():
        drawn.add_row(*(_text(value) for value in row.values()))
    return drawn


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return iso(value)
    return "" if value is None else f"{value}"


def no_bar_of(symbols: Sequence[str], known: Collection[str], keyspace: str) -> str:
    """Say that a keyspace has no bar of some symbols, and which it has."""
    there_is_none = f"There is no bar of {', '.join(symbols)} in keyspace {keyspace}"
    return f"{there_is_none}; it has {some_of(known)}."
