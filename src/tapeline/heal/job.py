"""Fetch what silver lacks of a feed's numbers, send it the way of all trades, report what is whole.

The gaps are those of producers that may be running, so what is healed of them is a report beside
theirs (`Gap.healed_key`). A gap is healed if the feed itself brought a trade before it and one
after it, and every number between them is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from rich.progress import Progress

from tapeline.feeds.feed import Feed, IdHole
from tapeline.feeds.known import BACKFILL
from tapeline.heal.stored_numbers import StoredNumbers
from tapeline.model.gap import Gap
from tapeline.model.times import from_micros, now_us
from tapeline.model.trade import encode_trade
from tapeline.producer.history import HistoryClient, NoHistoryError
from tapeline.producer.identity import GivenIdentity
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.storage.cassandra_client import CassandraClient

_LATE: Final = timedelta(minutes=1)
"""How much older than a gap by receipt a trade may be that is missing in it."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is looked at; silver may have lost what is older than `oldest`."""

    start: datetime
    end: datetime
    oldest: datetime
    now: datetime


@dataclass(slots=True)
class SymbolResult:
    """What became of one symbol: how many trades were fetched, what is healed, what stays and why.

    A gap has its end here, also one that its producer never told.
    """

    symbol: str
    fetched: int = 0
    healed: list[Gap] = field(default_factory=list)
    holes: list[tuple[IdHole, str]] = field(default_factory=list)
    gaps: list[tuple[Gap, str]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of that time is known to be missing."""
        return not self.holes and not self.gaps


class Healing:
    """Heals symbols of one feed, one after the other.

    Args:
        feed: has numbers.
        history: asks its exchange.
        client: reads silver.
        producer: takes trades to their topic.
        progress: shows how far it is.
    """

    def __init__(
        self,
        feed: Feed,
        history: HistoryClient,
        client: CassandraClient,
        producer: KafkaProducer,
        progress: Progress,
    ) -> None:
        self._source = feed.name
        self._history = history
        self._client = client
        self._producer = producer
        self._progress = progress
        self._identity = GivenIdentity(f"{feed.name}{BACKFILL}")

    async def heal(self, symbol: str, gaps: Iterable[Gap], span: Span) -> SymbolResult:
        """Fetch and send what is missing of a symbol in a time, and in the gaps that reach into it.

        Raises:
            DeliveryError: Kafka refuses a trade, or does not answer.
        """
        result = SymbolResult(symbol)
        over: list[Gap] = []
        for gap in gaps:
            if gap.ended_us is None:
                result.gaps.append((gap, "it lasts: run this again once it is over"))
            elif from_micros(gap.started_us) < span.oldest:
                result.gaps.append((gap, "silver has begun to lose the trades of its time"))
            else:
                over.append(gap)
        start = min([span.start, *(from_micros(gap.started_us) for gap in over)]) - _LATE
        end = max([span.end, *(from_micros(gap.over_us) for gap in over)])
        numbers = StoredNumbers(symbol, self._source, partial(self._client.trades_between, symbol))
        task = self._progress.add_task(f"{symbol}: reading silver", total=None)
        numbers.read_around(start, end, span.oldest, span.now)
        self._progress.remove_task(task)
        for hole in numbers.holes(start, end):
            await self._fill(hole, numbers, result)
        for gap in over:
            if numbers.covers(gap):
                result.healed.append(gap)
            else:
                result.gaps.append((gap, numbers.why_not(gap)))
        return result

    async def _fill(self, hole: IdHole, numbers: StoredNumbers, result: SymbolResult) -> None:
        """Fetch a hole and send it, a page at a time, as far as it goes."""
        if numbers.came_from_elsewhere(hole):
            text = "trades of that time came by another source, and these would count twice"
            result.holes.append((hole, text))
            return
        total = hole.before_id - hole.after_id - 1
        task = self._progress.add_task(f"{hole.symbol}: fetching", total=total)
        try:
            async for trades in self._history.trades(hole):
                for trade in self._identity.assign(trades, now_us(), 0.0):
                    await self._producer.send(trade.symbol, encode_trade(trade))
                self._producer.flush()
                numbers.fetched(trades)
                result.fetched += len(trades)
                self._progress.advance(task, len(trades))
        except NoHistoryError as error:
            result.holes.append((hole, str(error)))
        self._progress.remove_task(task)


async def report(
    producer: KafkaProducer,
    topic: str,
    results: Iterable[SymbolResult],
    offsets: Mapping[int, int],
) -> None:
    """Report the gaps that are healed of some symbols.

    Args:
        producer: takes reports to Kafka.
        topic: of gaps.
        results: of all symbols.
        offsets: the newest of each partition of the trades' topic, once it had what was fetched.

    Raises:
        DeliveryError: Kafka refuses a report, or does not answer.
    """
    symbols: defaultdict[str, list[str]] = defaultdict(list)
    gaps: dict[str, Gap] = {}
    for result in results:
        for gap in result.healed:
            gaps[gap.key] = gap
            symbols[gap.key].append(result.symbol)
    for key, gap in gaps.items():
        healed = gap.healed_of(symbols[key], now_us(), offsets)
        await producer.send_to(topic, healed.healed_key, healed.to_bytes())
    producer.flush()
