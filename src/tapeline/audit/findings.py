"""What an audit finds: differences between two layers, and what it could not compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Final

from tapeline.model.bar import Interval, WindowKey
from tapeline.model.times import iso


class Pair(str, Enum):
    """Two layers that are compared, the first being what the second is made of."""

    KAFKA_BRONZE = "Kafka → bronze"
    BRONZE_SILVER = "bronze → silver, quarantine"
    SILVER_GOLD = "silver → 5m bars"
    GOLD_HOURS = "5m bars → 1h bars"
    VENDOR = "vendor → 5m bars"
    VENDOR_HOURS = "vendor → 1h bars"


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRef:
    """One trade of a bar, by its time and id."""

    event_time: datetime
    trade_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef:
    """One message, by its Kafka coordinates."""

    topic_id: str
    kafka_partition: int
    kafka_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field, or a whole row when `what` says so, that is not what the layer before makes it.

    `symbol` and `window_start` name the bar; they are None for a message that holds no trade.
    """

    pair: Pair
    what: str
    expected: str
    found: str
    symbol: str | None = None
    window_start: datetime | None = None
    interval: Interval = Interval.FIVE_MINUTES
    trade: TradeRef | None = None
    message: MessageRef | None = None

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts by layers, then time, then symbol."""
        earliest = datetime.min.replace(tzinfo=timezone.utc)
        time = self.trade.event_time if self.trade else self.window_start or earliest
        offset = self.message.kafka_offset if self.message else -1
        return (
            list(Pair).index(self.pair),
            self.window_start or earliest,
            self.symbol or "",
            time,
            offset,
            self.what,
        )


def text_of(value: object) -> str:
    """Return a value as a report shows it."""
    if value is None:
        return "none"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        return iso(value)
    return str(value)


NO_KAFKA: Final = "messages that Kafka no longer holds"
NO_BRONZE: Final = "windows of which bronze has expired messages"
NO_SILVER: Final = "windows of which silver has expired trades"
NO_GOLD: Final = "windows whose bars have expired"
NO_TOPIC: Final = (
    "windows of topics that no longer exist, which a stream or `tapeline rebuild gold` makes final"
)
NO_PRICES: Final = "rows of the file without prices, left out"
_NO_WINDOWS: Final = (NO_BRONZE, NO_SILVER, NO_GOLD, NO_TOPIC)

KEPT_DIFFERENCES: Final = 1000
"""How many differences of two layers are kept; further ones are only counted."""


@dataclass(slots=True)
class Compared:
    """What became of some rows: compared, not ready, or past auditing.

    `unaudited` holds the windows that cannot be compared, by what is missing (`NO_SILVER`, …).
    """

    checked: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_yet: int = 0
    unaudited: dict[str, set[WindowKey]] = field(default_factory=lambda: defaultdict(set))


@dataclass(slots=True)
class PairCount:
    """What became of the rows of one pair of layers."""

    checked: int = 0
    differences: int = 0
    not_yet: int = 0
    not_auditable: int = 0


@dataclass(slots=True)
class Unaudited:
    """What could not be audited for one reason: how much, and from when to when."""

    count: int
    first: datetime
    last: datetime

    def add(self, time: datetime) -> None:
        """Count one more."""
        self.count += 1
        self.first = min(self.first, time)
        self.last = max(self.last, time)


@dataclass(slots=True)
class Findings:
    """Counts by pair, the first differences of each, and what could not be audited."""

    counts: dict[Pair, PairCount] = field(default_factory=lambda: defaultdict(PairCount))
    unaudited: dict[tuple[Pair, str], Unaudited] = field(default_factory=dict)
    _kept: dict[Pair, list[Difference]] = field(default_factory=lambda: defaultdict(list))

    def add(self, pair: Pair, compared: Compared) -> None:
        """Take what a comparison has found."""
        self.checked(pair, compared.checked, compared.differences)
        self.not_yet(pair, compared.not_yet)
        for what in _NO_WINDOWS:
            self.not_auditable(pair, what, (start for _, start in compared.unaudited.get(what, ())))

    def checked(self, pair: Pair, rows: int, differences: Iterable[Difference]) -> None:
        """Count rows that were compared, and note the differences among them."""
        count = self.counts[pair]
        count.checked += rows
        for difference in differences:
            count.differences += 1
            if len(self._kept[pair]) < KEPT_DIFFERENCES:
                self._kept[pair].append(difference)

    def not_yet(self, pair: Pair, rows: int) -> None:
        """Count rows that are not ready to be compared."""
        self.counts[pair].not_yet += rows

    def not_auditable(self, pair: Pair, what: str, times: Iterable[datetime]) -> None:
        """Count what cannot be compared any more, e.g. windows by their starts."""
        for time in times:
            self.counts[pair].not_auditable += 1
            if (pair, what) in self.unaudited:
                self.unaudited[pair, what].add(time)
            else:
                self.unaudited[pair, what] = Unaudited(1, time, time)

    def in_order(self) -> list[tuple[Pair, PairCount]]:
        """Return the counts in the order of the layers."""
        return [(pair, self.counts[pair]) for pair in Pair if pair in self.counts]

    @property
    def total_checked(self) -> int:
        """Rows of all pairs that were compared."""
        return sum(t.checked for t in self.counts.values())

    @property
    def total_differences(self) -> int:
        """Differences of all pairs, kept or not."""
        return sum(t.differences for t in self.counts.values())

    @property
    def differences(self) -> list[Difference]:
        """The kept differences: by layers, then time, then symbol."""
        return sorted((d for kept in self._kept.values() for d in kept), key=lambda d: d.order)
