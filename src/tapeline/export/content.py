"""What the file of a symbol's day holds, and whether the day is finalized."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Final

import pyarrow as pa

from tapeline.export.files import ExportFormat
from tapeline.model.bar import Bar
from tapeline.model.conditions import SIP_ODDLOT
from tapeline.model.read_interval import ReadInterval
from tapeline.model.rules import Rules
from tapeline.model.splits import NO_SPLITS, Splits
from tapeline.model.threshold import Length
from tapeline.model.times import to_millis
from tapeline.read.bars import any_bars, bars_of_trades, bars_table
from tapeline.read.trades import trade_batches, trades_schema
from tapeline.storage.bar_rows import GOLD_TABLES
from tapeline.storage.cassandra_client import CassandraClient

_DAY: Final = timedelta(days=1)
_FIVE_MINUTES: Final = ReadInterval.parse("5m")


class Kind(str, Enum):
    """What is exported."""

    BARS = "bars"
    TRADES = "trades"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to write. `first` and `stop` bound the days, `stop` excluded; None is all there is.

    `delay` is how late a trade may be: a day is over that much after its end. `policy` and `splits`
    are as for `any_bars`.
    """

    kind: Kind
    file_format: ExportFormat
    interval: Length
    symbols: frozenset[str] | None
    first: date | None
    stop: date | None
    exact: bool
    detail: bool
    provisional: bool
    overwrite: bool
    delay: timedelta
    policy: Rules = SIP_ODDLOT
    splits: Splits = NO_SPLITS

    def wants(self, symbol: str, day: date) -> bool:
        """Return whether a symbol's day is asked for."""
        return (
            (self.symbols is None or symbol in self.symbols)
            and (self.first is None or day >= self.first)
            and (self.stop is None or day < self.stop)
        )

    def lasting(self, keyspace: str) -> dict[str, object]:
        """Return what all files of one folder have in common."""
        common: dict[str, object] = {
            "kind": self.kind.value,
            "keyspace": keyspace,
            "format": self.file_format.value,
            "exact": self.exact,
        }
        if self.kind is Kind.TRADES:
            return common
        return {
            **common,
            "interval": self.interval.name,
            "detail": self.detail,
            "provisional": self.provisional,
            "splits": self.splits.fingerprint,
        }


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a file and what they show.

    `state` names the state of the store, None when it may change unseen; `expected` is how many
    trades each window, by its start in ms, ought to have; `is_open` says that more rows will come,
    `is_over` that the day has ended. Of bars, `pending` are the windows whose bar is left out as it
    is provisional, and `expires` says that gold forgets bars after a time.
    """

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    state: str | None
    expected: Mapping[int, int]
    is_open: bool
    is_over: bool
    pending: frozenset[datetime] = frozenset()
    expires: bool = False


def content_of(
    client: CassandraClient, options: ExportOptions, symbol: str, day: date, now: datetime
) -> Content:
    """Return what the file of a symbol's day must hold; trades are read as they are asked for."""
    is_over = now >= midnight(day) + _DAY + options.delay
    if options.kind is Kind.BARS:
        return _bars(client, options, symbol, day, is_over=is_over)
    return _trades(client, options, symbol, day, is_over=is_over)


def midnight(day: date) -> datetime:
    """Return the beginning of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)


def _bars(
    client: CassandraClient, options: ExportOptions, symbol: str, day: date, *, is_over: bool
) -> Content:
    start = midnight(day)
    length, rules, splits = options.interval, options.policy, options.splits
    every = list(any_bars(client, symbol, length, start, start + _DAY, rules, splits))
    bars = [b for b in every if b.is_final or options.provisional]
    table = bars_table(bars, exact=options.exact, detail=options.detail)
    return Content(
        table.schema,
        table.to_batches(),
        state_of_bars(bars),
        {},
        not is_over or not all(b.is_final for b in every),
        is_over,
        frozenset(b.window_start for b in every) - {b.window_start for b in bars},
        bool(client.lifetimes()[GOLD_TABLES[length.stored]]),
    )


def state_of_bars(bars: Iterable[Bar]) -> str:
    """Return a name of what bars say, another one after each change of any of them.

    Two changes are no revision: of whether a longer bar is complete, and of a provisional bar.
    """
    return _digest(
        (b.window_start, b.revision, b.trade_count, b.is_complete, b.updated_at) for b in bars
    )


def trades_of_day(client: CassandraClient, symbol: str, day: date) -> int:
    """Return how many trades the final bars of a day are of, as far as gold has them."""
    start = midnight(day)
    bars = client.bars(symbol, _FIVE_MINUTES.stored, start, start + _DAY)
    return sum(bar.trade_count for bar in bars if bar.is_final)


def _trades(
    client: CassandraClient, options: ExportOptions, symbol: str, day: date, *, is_over: bool
) -> Content:
    """Read the bars first: a trade that comes meanwhile is one too many, and revises its bar."""
    start = midnight(day)
    bars = list(bars_of_trades(client, symbol, _FIVE_MINUTES, start, start + _DAY))
    is_finalized = is_over and bool(bars) and all(b.is_final for b in bars)
    state = _digest((b.window_start, b.revision, b.trade_count) for b in bars)
    return Content(
        trades_schema(exact=options.exact),
        trade_batches(client, symbol, start, start + _DAY, exact=options.exact),
        state if is_finalized else None,
        {to_millis(b.window_start): b.trade_count for b in bars} if is_finalized else {},
        not is_finalized,
        is_over,
    )


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()
