"""What an audit reports: a difference between two layers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum

from tapeline.model.bar import Interval
from tapeline.model.times import iso


class Pair(str, Enum):
    """Two layers that are compared, the first being what the second is made of."""

    KAFKA_BRONZE = "Kafka → bronze"
    BRONZE_SILVER = "bronze → silver, quarantine"
    SILVER_GOLD = "silver → 5m bars"
    GOLD_HOURS = "5m bars → 1h bars"
    VENDOR = "vendor → 5m bars"


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
