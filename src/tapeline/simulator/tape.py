"""Read a tape: recorded trades in the order in which they came.

Columns `event_time_ms,symbol,price,volume,conditions`; CSV (gzip or not) or Parquet;
conditions are ids joined by `|`, empty means none. Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tapeline.model.errors import TapeError
from tapeline.simulator.feed import FeedFrame

_SCHEMA: Final = {
    "event_time_ms": pa.int64(),
    "symbol": pa.string(),
    "price": pa.float64(),
    "volume": pa.float64(),
    "conditions": pa.string(),
}
_MOST_OF_A_REASON: Final = 300
"""Characters; a reason may hold a whole line of the file."""
_PART_BYTES: Final = 1 << 20


class Tape:
    """A tape file, cut into frames of `frame_ms` milliseconds of event time.

    Trades that share a millisecond always share a frame, as long as the tape holds them
    together.

    Raises:
        TapeError: the file is missing, is no tape or holds no trade.
    """

    is_live = False

    def __init__(self, path: Path, frame_ms: int) -> None:
        self._frame_ms = frame_ms
        self._table = _read_table(path)
        self.trades: int = self._table.num_rows
        if self.trades == 0:
            message = f"{path} holds no trade."
            raise TapeError(message)
        self.symbols: tuple[str, ...] = tuple(sorted(set(self._table["symbol"].to_pylist())))
        self.start_ms: int = self._table["event_time_ms"][0].as_py()

    def frames(self, _now_ms: int) -> Iterator[FeedFrame]:
        """Yield the whole tape from its start: who comes back gets all of it again."""
        slot: int | None = None
        trades: list[dict[str, Any]] = []
        for batch in self._table.to_batches(max_chunksize=10_000):
            for row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                current = row[0] // self._frame_ms
                if current != slot and trades:
                    yield FeedFrame(trades[-1]["t"], trades)
                    trades = []
                slot = current
                trades.append(_wire_trade(row))
        yield FeedFrame(trades[-1]["t"], trades)


def _wire_trade(row: tuple[Any, ...]) -> dict[str, Any]:
    event_time_ms, symbol, price, volume, conditions = row
    return {
        "c": conditions.split("|") if conditions else None,
        "p": price,
        "s": symbol,
        "t": event_time_ms,
        "v": volume,
    }


def _read_table(path: Path) -> pa.Table:
    is_parquet = path.suffix == ".parquet"
    try:
        table = _read_parquet(path) if is_parquet else _read_csv(path)
    except FileNotFoundError as error:
        message = f"There is no tape {path}."
        raise TapeError(message) from error
    except (pa.ArrowException, OSError, csv.Error) as error:
        message = (
            f"{path} is no tape: {_reason(error)}. A tape is CSV or Parquet with the columns "
            f"{','.join(_SCHEMA)}."
        )
        raise TapeError(message) from error
    first_row = 1 if is_parquet else 2  # the names are row 1 of a CSV, and blank lines are none
    for column in ("event_time_ms", "symbol", "price", "volume"):
        values = table[column]
        _require_none(values.is_null(), f"{path}: column {column} has", "empty", first_row)
        if pa.types.is_floating(values.type):
            is_endless = pc.invert(pc.is_finite(values))
            _require_none(is_endless, f"{path}: column {column} has", "NaN or infinite", first_row)
    return table


def _reason(error: Exception) -> str:
    """Say in one line what is wrong; a part of the file may stand in it."""
    text = " ".join(str(error).split()).rstrip(".")
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _MOST_OF_A_REASON else text[:_MOST_OF_A_REASON] + "…"


def _read_parquet(path: Path) -> pa.Table:
    table = pq.read_table(path, columns=list(_SCHEMA))
    table = table.select(list(_SCHEMA)).cast(pa.schema(list(_SCHEMA.items())))
    table.validate(full=True)  # text that is no UTF-8
    return table


def _read_csv(path: Path) -> pa.Table:
    options = pacsv.ConvertOptions(
        column_types=_SCHEMA,
        include_columns=list(_SCHEMA),
        null_values=[""],  # NA is a symbol
        strings_can_be_null=True,
    )
    try:
        table = pacsv.read_csv(path, convert_options=options)
    except pa.ArrowInvalid:
        # Again in one thread, which tells the row.
        table = pacsv.read_csv(path, pacsv.ReadOptions(use_threads=False), convert_options=options)
    _require_a_line_each(path)
    return table


def _require_a_line_each(path: Path) -> None:
    """Refuse a quote without an end, which makes the rows after it part of a value."""
    with pa.input_stream(path) as file:
        if not any(b'"' in part for part in iter(lambda: file.read(_PART_BYTES), b"")):
            return
    last = 0
    with pa.input_stream(path) as file:
        rows = csv.reader(io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline=""))
        for _ in rows:
            if rows.line_num != last + 1:
                message = f"{path}: a quoted value of line {last + 1} goes on over the next one."
                raise TapeError(message)
            last = rows.line_num


def _require_none(is_bad: pa.ChunkedArray, where: str, what: str, first_row: int) -> None:
    first = pc.index(is_bad, value=True).as_py()
    if first >= 0:
        count = pc.sum(is_bad).as_py()
        message = f"{where} {count} {what} values, the first in row {first + first_row}."
        raise TapeError(message)
