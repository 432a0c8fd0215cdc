"""Read a tape: recorded trades in the order in which they came.

Columns `event_time_ms,symbol,price,volume,conditions`; CSV (gzip or not) or Parquet;
conditions are ids joined by `|`, empty means none. Other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tapeline.errors import TapeError
from tapeline.simulator.feed import FeedFrame

_SCHEMA: Final = {
    "event_time_ms": pa.int64(),
    "symbol": pa.string(),
    "price": pa.float64(),
    "volume": pa.float64(),
    "conditions": pa.string(),
}


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
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path, columns=list(_SCHEMA))
            table = table.select(list(_SCHEMA)).cast(pa.schema(list(_SCHEMA.items())))
        else:
            options = pacsv.ConvertOptions(
                column_types=_SCHEMA,
                include_columns=list(_SCHEMA),
                null_values=[""],  # NA is a symbol
                strings_can_be_null=True,
            )
            table = pacsv.read_csv(path, convert_options=options)
    except FileNotFoundError as error:
        message = f"There is no tape {path}."
        raise TapeError(message) from error
    except (pa.ArrowException, OSError) as error:
        message = (
            f"{path} is no tape: {error}. A tape is CSV or Parquet with the columns "
            f"{','.join(_SCHEMA)}."
        )
        raise TapeError(message) from error
    for column in ("event_time_ms", "symbol", "price", "volume"):
        if table[column].null_count:
            message = f"{path}: column {column} has {table[column].null_count} empty values."
            raise TapeError(message)
    return table
