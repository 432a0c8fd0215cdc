"""Read a tape of any form into one table of trades, and say what was understood."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.model.errors import TapeError
from tapeline.model.symbols import what_is_wrong_with
from tapeline.simulator.tape_file.cells import Cells, one_line
from tapeline.simulator.tape_file.columns import Columns, find_columns, known_names
from tapeline.simulator.tape_file.conditions import ConditionCounts, finnhub_conditions
from tapeline.simulator.tape_file.content import Content, open_content
from tapeline.simulator.tape_file.form import TapeForm
from tapeline.simulator.tape_file.notes import Steps, TapeNotes
from tapeline.simulator.tape_file.presets import Role
from tapeline.simulator.tape_file.times import event_times

SCHEMA: Final = pa.schema(
    {
        "event_time_ms": pa.int64(),
        "symbol": pa.string(),
        "price": pa.float64(),
        "volume": pa.float64(),
        "conditions": pa.string(),
    }
)
"""What every tape becomes; conditions are Finnhub's ids joined by `|`, null for none."""


def read_tape(path: Path, form: TapeForm) -> tuple[pa.Table, TapeNotes]:
    """Return the trades of a file in its order, and what was understood of it.

    Raises:
        TapeError: the file is missing, is no tape or holds no trade.
    """
    try:
        content = open_content(path, known_names(form))
        columns = find_columns(content, form, path)
        return _Reading(path, form, content, columns).result()
    except FileNotFoundError as error:
        message = f"There is no tape {path}."
        raise TapeError(message) from error
    except (pa.ArrowException, OSError, csv.Error, UnicodeError) as error:
        message = (
            f"{path} is no tape: {one_line(str(error))}. A tape is CSV or Parquet with the columns "
            f"{','.join(SCHEMA.names)}, or others that --columns or --format tells."
        )
        raise TapeError(message) from error


class _Reading:
    """One file on its way to a table."""

    def __init__(self, path: Path, form: TapeForm, content: Content, columns: Columns) -> None:
        self._path = path
        self._form = form
        self._content = content
        self._columns = columns
        self._names = columns.names
        self._codes = form.codes or columns.preset.codes
        self._remarks: list[str] = []
        self._cells = self._read()

    def result(self) -> tuple[pa.Table, TapeNotes]:
        rows = len(self._cells[Role.TIME].values)
        if rows == 0:
            message = f"{self._path} holds no trade."
            raise TapeError(message)
        for role in (Role.TIME, Role.SYMBOL, Role.PRICE, Role.SIZE):
            if role in self._cells:
                cells = self._cells[role]
                cells.require_none(cells.values.is_null(), "empty")
        times, meaning = event_times(self._cells[Role.TIME])
        symbols = self._symbols(rows)
        prices, sizes = self._numbers(Role.PRICE), self._numbers(Role.SIZE)
        conditions, counts = self._conditions(rows)
        arrays = [times, symbols, prices, sizes, conditions]
        table = self._in_order(pa.table(arrays, names=SCHEMA.names).cast(SCHEMA))
        return table, self._notes(table, meaning, counts)

    def _in_order(self, table: pa.Table) -> pa.Table:
        """Return the trades as they came, which a file with one symbol after the other is not."""
        if not self._columns.shape.is_by_symbol or not _steps_back(table["event_time_ms"]).trades:
            return table
        self._remarks.append("One symbol after the other in the file, played in order of time.")
        # The sort is stable: what shares a millisecond keeps its order.
        return table.take(pc.sort_indices(table, sort_keys=[("event_time_ms", "ascending")]))

    def _read(self) -> dict[Role | str, Cells]:
        """Read the columns that have a role, and those that the shape looks at."""
        roles: dict[Role | str, int] = {}
        roles.update(self._columns.positions.items())
        shape = self._columns.shape
        for looked_at in (shape.only, shape.noted):
            if looked_at is not None and looked_at[0] in self._names:
                roles[looked_at[0]] = self._names.index(looked_at[0])
        texts = {Role.TIME, Role.SYMBOL, Role.CONDITIONS, Role.PLAN}
        is_text = {i: role in texts or isinstance(role, str) for role, i in roles.items()}
        if self._columns.preset.price_unit is not None:
            is_text[roles[Role.PRICE]] = True  # its form tells what a unit is
        types = {i: pa.string() if text else pa.float64() for i, text in is_text.items()}
        values = dict(zip(types, self._content.read(types), strict=True))
        return {
            role: Cells(self._path, self._names[i], values[i], self._content.first_row)
            for role, i in roles.items()
        }

    def _symbols(self, rows: int) -> pa.ChunkedArray:
        if Role.SYMBOL not in self._cells:
            symbol = (self._form.symbol or "").strip()
            if wrong := what_is_wrong_with(symbol):
                message = f"--symbol: {symbol!r} {wrong}."
                raise TapeError(message)
            return pa.chunked_array([pa.repeat(pa.scalar(symbol), rows)])
        cells = self._cells[Role.SYMBOL]
        symbols = pc.utf8_trim_whitespace(
            cells.converted(cells.values, pa.string(), "is no symbol")
        )
        cells.require_none(pc.equal(symbols, ""), "empty")
        for symbol in pc.unique(symbols).to_pylist():
            if wrong := what_is_wrong_with(symbol):
                raise cells.refused(pc.index(symbols, value=symbol).as_py(), wrong)
        return symbols

    def _numbers(self, role: Role) -> pa.ChunkedArray:
        cells = self._cells[role]
        kind = cells.values.type
        unit = self._columns.preset.price_unit if role is Role.PRICE else None
        if unit is not None and pa.types.is_string(kind):
            is_decimal = pc.match_substring(cells.values, ".")
            if pc.any(is_decimal).as_py():
                cells.require(is_decimal, "has no decimal point and other prices have one")
                unit = None
            else:
                self._remarks.append(_FIXED)
        elif unit is not None and pa.types.is_integer(kind):
            self._remarks.append(_FIXED)
        else:
            unit = None
        numbers = cells.converted(cells.values, pa.float64(), "is no number")
        cells.require_none(pc.invert(pc.is_finite(numbers)), "NaN or infinite")
        if unit is None:
            return numbers
        cells.require(pc.less(numbers, _NO_PRICE), "stands for no price")
        return pc.divide(numbers, round(1 / unit))

    def _conditions(self, rows: int) -> tuple[pa.ChunkedArray, ConditionCounts]:
        if Role.CONDITIONS not in self._cells:
            return pa.chunked_array([pa.nulls(rows, pa.string())]), ConditionCounts()
        plans = self._cells.get(Role.PLAN)
        given = self._cells[Role.CONDITIONS].values
        return finnhub_conditions(given, self._codes, plans.values if plans else None)

    def _notes(self, table: pa.Table, times: str, counts: ConditionCounts) -> TapeNotes:
        self._look_at_rows()
        used = {role: self._names[i] for role, i in self._columns.positions.items()}
        ends = pc.min_max(table["event_time_ms"]).as_py()
        return TapeNotes(
            path=self._path,
            kind=self._content.kind,
            format=self._columns.format,
            is_recognised=self._columns.is_recognised,
            trades=table.num_rows,
            symbols=tuple(sorted(pc.unique(table["symbol"]).to_pylist())),
            first_ms=ends["min"],
            last_ms=ends["max"],
            times=times,
            used=used,
            ignored=tuple(name for name in self._names if name not in used.values()),
            codes=self._codes,
            conditions=counts,
            back=_steps_back(table["event_time_ms"]),
            remarks=tuple(self._remarks),
        )

    def _look_at_rows(self) -> None:
        """Refuse rows that are no trades, and count those that are of a kind to be told."""
        shape = self._columns.shape
        if shape.only is not None and shape.only[0] in self._cells:
            cells = self._cells[shape.only[0]]
            is_trade = pc.equal(pc.fill_null(cells.values.cast(pa.string()), ""), shape.only[1])
            cells.require(is_trade, "is no trade: take the schema of trades")
        if shape.noted is not None and shape.noted[0] in self._cells:
            texts = pc.fill_null(self._cells[shape.noted[0]].values.cast(pa.string()), "0")
            regular = pc.is_in(texts, value_set=pa.array(["", "0", "00"]))
            if noted := pc.sum(pc.invert(regular)).as_py():
                name, what = shape.noted
                self._remarks.append(f"Trades that {what} (column {name}): {noted:,}.")


_NO_PRICE: Final = float(2**63 - 1)
"""What whole prices say where there is none."""
_FIXED: Final = "Prices are whole numbers in units of 0.000000001."


def _steps_back(times: pa.ChunkedArray) -> Steps:
    behind = pc.subtract(pc.cumulative_max(times), times)
    return Steps(pc.sum(pc.greater(behind, 0)).as_py(), pc.max(behind).as_py())
