"""Compare what a contestant has stored with the truth: rows of each layer, and every bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from itertools import chain
from typing import Any, Final

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from bench.load import UNIT
from bench.truth import FIVE_MINUTES_MS, HOUR_MS, TrueBar, Truth, Window

_BUCKET_OFFSETS: Final = 100_000
_AT_ONCE: Final = 32
_SHOWN: Final = 5


class WrongOutputError(Exception):
    """A contestant's tables do not hold what the load makes. The run does not count."""


def check_tables(
    session: Session, keyspace: str, truth: Truth, offsets: Mapping[int, int], topic_id: str | None
) -> None:
    """Check bronze, silver and gold of one keyspace.

    Args:
        session: connected to Cassandra.
        keyspace: to look into.
        truth: of the load.
        offsets: the last offset of each Kafka partition.
        topic_id: part of bronze's key; None when the contestant has no such column.

    Raises:
        WrongOutputError: something is missing, too much or different.
    """
    check_layers(session, keyspace, truth, offsets, topic_id)
    bars, hours = truth.bars, truth.hours()
    _raise(keyspace, _gold(session, f"{keyspace}.trades_gold_5m", bars, FIVE_MINUTES_MS))
    _raise(keyspace, _gold(session, f"{keyspace}.trades_gold_1h", hours, HOUR_MS))


def count_bronze(
    session: Session, keyspace: str, offsets: Mapping[int, int], topic_id: str | None
) -> int:
    """Return the rows of bronze; arguments as in `check_tables`."""
    head = () if topic_id is None else (topic_id,)
    names = (*("topic_id" for _ in head), "kafka_partition", "bucket")
    keys = [
        (*head, partition, bucket)
        for partition, last in offsets.items()
        for bucket in range(last // _BUCKET_OFFSETS + 1)
    ]
    where = " AND ".join(f"{name} = ?" for name in names)
    query = f"SELECT count(*) FROM {keyspace}.trades_bronze WHERE {where}"
    return sum(row[0] for row in _each(session, query, keys, at_once=2))


def _bronze(rows: int, messages: int) -> Iterator[str]:
    if rows != messages:
        yield f"bronze has {rows:,} rows of {messages:,} messages"


def _silver(session: Session, keyspace: str, truth: Truth) -> Iterator[str]:
    """Check each window's trades by number, prices and times."""
    query = (
        "SELECT count(*), min(price), max(price), min(event_time), max(event_time) "
        f"FROM {keyspace}.trades_silver WHERE symbol = ? AND bucket = ?"
    )
    windows = list(truth.bars)
    keys = [(symbol, _time(start_ms)) for symbol, start_ms in windows]
    for window, row in zip(windows, _each(session, query, keys), strict=True):
        bar = truth.bars[window]
        wanted = (
            bar.trade_count,
            bar.lowest / UNIT,
            bar.highest / UNIT,
            _naive(bar.first_ms),
            _naive(bar.last_ms),
        )
        if tuple(row) != wanted:
            yield f"silver of {_name(window)} has {tuple(row)}, not {wanted}"


def check_live_bars(session: Session, keyspace: str, truth: Truth) -> None:
    """Check bars of five minutes that may still be provisional; others may lie beside them.

    Raises:
        WrongOutputError: a bar is missing or different.
    """
    bars = truth.bars
    table = f"{keyspace}.trades_gold_5m"
    _raise(keyspace, _gold(session, table, bars, FIVE_MINUTES_MS, is_all=False))


def check_layers(
    session: Session, keyspace: str, truth: Truth, offsets: Mapping[int, int], topic_id: str | None
) -> None:
    """Check bronze and silver alone; arguments as in `check_tables`.

    Raises:
        WrongOutputError: something is missing, too much or different.
    """
    bronze = _bronze(count_bronze(session, keyspace, offsets, topic_id), truth.messages)
    _raise(keyspace, chain(bronze, _silver(session, keyspace, truth)))


def check_bronze(rows: int, messages: float, keyspace: str) -> None:
    """Check the number of rows alone.

    Raises:
        WrongOutputError: it is another one.
    """
    _raise(keyspace, _bronze(rows, int(messages)))


def _raise(keyspace: str, problems: Iterable[str]) -> None:
    wrong = list(problems)
    if wrong:
        shown = "\n  ".join(wrong[:_SHOWN])
        message = f"{keyspace}: {len(wrong)} things are wrong, among them\n  {shown}"
        raise WrongOutputError(message)


def _gold(
    session: Session,
    table: str,
    bars: dict[Window, TrueBar],
    length_ms: int,
    *,
    is_all: bool = True,
) -> Iterator[str]:
    """Check every bar; if they are all that there is, also that each is final and no other is."""
    query = (
        "SELECT symbol, window_start, window_end, open, high, low, close, volume, notional, "
        f"trade_count, unpriced_count, is_final FROM {table}"
    )
    found = set()
    for row in session.execute(query):
        start_ms = int(row.window_start.replace(tzinfo=timezone.utc).timestamp() * 1000)
        window = row.symbol, start_ms
        found.add(window)
        bar = bars.get(window)
        if bar is None:
            if is_all:
                yield f"{table} has {_name(window)}, which had no trade"
            continue
        wanted = {**_wanted(bar), "window_end": _naive(start_ms + length_ms)}
        if is_all:
            wanted["is_final"] = True
        wrong = {
            name: (getattr(row, name), value)
            for name, value in wanted.items()
            if _exact(getattr(row, name), value) != value
        }
        if wrong:
            yield f"{table} {_name(window)}: stored and true {wrong}"
    for window in bars.keys() - found:
        yield f"{table} lacks {_name(window)}"


def _exact(stored: Any, wanted: Any) -> Any:
    """Return a stored value; exact amounts may be kept as text."""
    return Decimal(stored) if isinstance(wanted, Decimal) and stored is not None else stored


def _wanted(bar: TrueBar) -> dict[str, Any]:
    prices = {name: getattr(bar, name) for name in ("open", "high", "low", "close")}
    return {
        **{name: None if units is None else units / UNIT for name, units in prices.items()},
        "volume": Decimal(bar.volume) / UNIT,
        "notional": Decimal(bar.notional).scaleb(-10),
        "trade_count": bar.trade_count,
        "unpriced_count": bar.unpriced_count,
    }


def _each(
    session: Session, query: str, keys: Iterable[tuple[Any, ...]], at_once: int = _AT_ONCE
) -> Iterator[Any]:
    prepared = session.prepare(query)
    answers = execute_concurrent_with_args(
        session, prepared, list(keys), concurrency=at_once, results_generator=True
    )
    return (rows.one() for _, rows in answers)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, timezone.utc)


def _naive(ms: int) -> datetime:
    return _time(ms).replace(tzinfo=None)


def _name(window: Window) -> str:
    return f"{window[0]} {_time(window[1]):%Y-%m-%dT%H:%M}"
