"""Look a trade up in every table: its messages in bronze, its row in silver, its bars in gold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tapeline.live.decode import decode_trade
from tapeline.model.bar import Bar, Interval
from tapeline.model.times import floor_to, from_millis
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, WindowState


@dataclass(frozen=True, slots=True)
class SilverTrade:
    """A trade as silver has it; `received_at_ms` is when the producer read its frame."""

    symbol: str
    event_time_ms: int
    trade_id: int
    price: float
    volume: float
    conditions: tuple[str, ...]
    sequence: int
    received_at_ms: int
    source: str

    @property
    def window_start(self) -> datetime:
        """The start of its five minutes."""
        return floor_to(Interval.FIVE_MINUTES.duration, from_millis(self.event_time_ms))


@dataclass(frozen=True, slots=True)
class Copy:
    """A message of Kafka that holds the trade, as bronze has it; times since the epoch."""

    topic_id: str
    kafka_partition: int
    kafka_offset: int
    kafka_timestamp_ms: int
    received_at_us: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A trade, its copies by Kafka's time, its bars, and whether a revision of them is due.

    Copies are none where bronze has lost its row: it keeps rows for less long than silver.
    """

    trade: SilverTrade
    copies: tuple[Copy, ...]
    bars: tuple[tuple[Interval, Bar], ...]
    is_due: bool


def silver_trades(
    client: CassandraClient, symbol: str, start: datetime, end: datetime
) -> Iterator[SilverTrade]:
    """Yield the trades of a symbol with start <= event_time < end, by time and id."""
    for rows in client.trades_between(symbol, start, end):
        for event_ms, trade_id, price, volume, conditions, rank, received_ms, source in rows:
            sale = tuple(conditions or ())
            yield SilverTrade(
                symbol, event_ms, trade_id, price, volume, sale, rank, received_ms, source
            )


def traces(client: CassandraClient, trades: Iterable[SilverTrade]) -> Iterator[Trace]:
    """Yield what became of each trade; they are of one symbol.

    Which messages may hold them is known by `window_state`: all of it is read once.
    """
    wanted = list(trades)
    windows = {(trade.symbol, trade.window_start) for trade in wanted}
    states: dict[tuple[str, datetime], list[WindowState]] = defaultdict(list)
    for state in client.all_states() if wanted else ():
        if (state.symbol, state.window_start) in windows:
            states[state.symbol, state.window_start].append(state)
    copies = _copies(client, {_place(s) for some in states.values() for s in some}, wanted)
    for trade in wanted:
        yield Trace(
            trade,
            tuple(copies[trade.trade_id, trade.event_time_ms]),
            tuple(_bars(client, trade)),
            any(state.is_open for state in states[trade.symbol, trade.window_start]),
        )


_Place = tuple[str, int, int]


def _place(state: WindowState) -> _Place:
    return state.topic_id, state.kafka_partition, state.bucket


def _copies(
    client: CassandraClient, places: Iterable[_Place], trades: Iterable[SilverTrade]
) -> dict[tuple[int, int], list[Copy]]:
    found: dict[tuple[int, int], list[Copy]] = defaultdict(list)
    wanted = {(trade.trade_id, trade.event_time_ms): trade.symbol for trade in trades}
    names = {symbol.encode() for symbol in wanted.values()}
    for topic_id, partition, bucket in sorted(places):
        span = (bucket * WINDOW_BUCKET_OFFSETS, (bucket + 1) * WINDOW_BUCKET_OFFSETS)
        for rows in client.bronze(topic_id, partition, [span]):
            for offset, timestamp_ms, _, message in rows:
                if not any(name in (message or b"") for name in names):
                    continue  # decoding costs more than looking
                trade = decode_trade(message, timestamp_ms)
                if trade is None:
                    continue
                key = (trade.trade_id, trade.event_time_ms)
                if wanted.get(key) == trade.symbol:
                    copy = Copy(topic_id, partition, offset, timestamp_ms, trade.received_at_us)
                    found[key].append(copy)
    for copies in found.values():
        copies.sort(key=lambda copy: copy.kafka_timestamp_ms)
    return found


def _bars(client: CassandraClient, trade: SilverTrade) -> Iterator[tuple[Interval, Bar]]:
    for interval in Interval:
        start = floor_to(interval.duration, from_millis(trade.event_time_ms))
        for bar in client.bars(trade.symbol, interval, start, start + interval.duration):
            yield interval, bar
