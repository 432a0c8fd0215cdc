"""What a trade brings to its bar, and the aggregates that make a bar of it, as Spark's columns.

Where the rules differ by session, a bar is made once for each variant of them. Its session is
worked out in Python, once a bar: `sessions.py` alone knows the hours of markets.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.consumer.eligibility import may_update, withheld
from tapeline.model.rules import HIGH_LOW, OPEN_CLOSE, VOLUME, Rules
from tapeline.model.trade import ORDER_ID_BITS, ORDER_RANK_BITS

# An order key: ms since the window's start (27 bits), rank (16), low bits of the id (20).
_RANK_MAX: Final = (1 << ORDER_RANK_BITS) - 1
_ID_MASK: Final = (1 << ORDER_ID_BITS) - 1

# Chosen so that Spark's product of the two is decimal(38,10), rounded once from the exact one:
# twenty-six places hold every digit of a price from 1e-9 on.
_PRICE_DECIMAL: Final = "decimal(38,26)"
_VOLUME_DECIMAL: Final = "decimal(25,10)"
_SUM_DECIMAL: Final = "decimal(38,10)"

BAR_COLUMNS: Final = (
    "symbol",
    "window_start",
    "window_end",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "notional",
    "vwap",
    "trade_count",
    "unpriced_count",
    "unpriced_volume",
    "first_trade_time",
    "last_trade_time",
    "first_received_at",
)

RULED_COLUMNS: Final = (
    *("open", "high", "low", "close", "volume", "notional", "vwap"),
    *("unpriced_count", "unpriced_volume"),
)
"""Those that hang on the rules. Where these differ by session, there is a set for each variant."""


def bar_columns(policy: Rules) -> tuple[str, ...]:
    """Return `BAR_COLUMNS`, and `RULED_COLUMNS` of each further variant, as `open_1`."""
    others = range(1, len(policy.variants))
    return BAR_COLUMNS + tuple(in_variant(c, n) for n in others for c in RULED_COLUMNS)


def in_variant(column: str, variant: int) -> str:
    """Return the name that a column has in a variant."""
    return f"{column}_{variant}" if variant else column


def contributions(policy: Rules) -> dict[str, Column]:
    """Return what a trade brings to its bar: the columns that `bar_aggregates` takes, by name.

    What it may update is found once, before the aggregates ask for it often.
    """
    return {
        "event_time": F.col("event_time"),
        "received_at": F.col("received_at"),
        "price": F.col("price"),
        "volume": F.col("volume"),
        "order_key": order_key(),
        **{in_variant("withheld", n): withheld(policy, n) for n in range(len(policy.variants))},
    }


def bar_aggregates(policy: Rules) -> list[Column]:
    """Return the aggregates of a bar; a row whose contributions are all null brings nothing."""
    return [
        *(a for n in range(len(policy.variants)) for a in _ruled_aggregates(n)),
        F.count("event_time").alias("trade_count"),
        F.min("event_time").alias("first_trade_time"),
        F.max("event_time").alias("last_trade_time"),
        F.min("received_at").alias("first_received_at"),
    ]


def _ruled_aggregates(variant: int) -> list[Column]:
    def may(field: int) -> Column:
        return may_update(field, in_variant("withheld", variant))

    def named(name: str) -> str:
        return in_variant(name, variant)

    sets_last, sets_high_low = may(OPEN_CLOSE), may(HIGH_LOW)
    volume = F.when(may(VOLUME), F.col("volume")).otherwise(F.lit(0.0))
    price = F.coalesce("price", F.lit(0.0))
    notional = price.cast(_PRICE_DECIMAL) * volume.cast(_VOLUME_DECIMAL)
    last_price = F.when(sets_last, F.col("price"))
    last_key = F.when(sets_last, F.col("order_key"))
    high_low_price = F.when(sets_high_low, F.col("price"))
    unpriced_volume = F.when(~sets_high_low, volume).otherwise(F.lit(0.0))
    return [
        F.min_by(last_price, last_key).alias(named("open")),
        F.max(high_low_price).alias(named("high")),
        F.min(high_low_price).alias(named("low")),
        F.max_by(last_price, last_key).alias(named("close")),
        _exact_sum(volume.cast(_SUM_DECIMAL), named("volume")),
        _exact_sum(notional.cast(_SUM_DECIMAL), named("notional")),
        F.count(F.when(~sets_high_low, F.lit(1))).alias(named("unpriced_count")),
        _exact_sum(unpriced_volume.cast(_SUM_DECIMAL), named("unpriced_volume")),
    ]


def order_key() -> Column:
    """Return one long that orders the trades of a five-minute window or a day alike.

    Milliseconds in the hour would not fit every interval, so it holds those of the UTC day:
    27 bits, then the rank (saturating) and the low bits of the id as the last tie-break.
    """
    millis_of_day = F.pmod(F.unix_millis("event_time"), F.lit(86_400_000))
    rank = F.least(F.col("sequence").cast("long"), F.lit(_RANK_MAX))
    low_id = F.col("trade_id").bitwiseAND(F.lit(_ID_MASK))
    place = F.shiftleft(millis_of_day, ORDER_RANK_BITS) + rank
    return F.shiftleft(place, ORDER_ID_BITS) + low_id


def _exact_sum(amount: Column, name: str) -> Column:
    overflow = F.raise_error(F.lit(f"the sum of {name} exceeds {_SUM_DECIMAL}"))
    return F.coalesce(F.sum(amount), overflow.cast(_SUM_DECIMAL)).alias(name)


def selected(policy: Rules) -> list[Column]:
    """Return `bar_columns` from an aggregate by `symbol` and `window`."""
    derived = {"window_start": F.col("window.start"), "window_end": F.col("window.end")}
    for n in range(len(policy.variants)):
        volume = F.col(in_variant("volume", n)).cast("double")
        notional = F.col(in_variant("notional", n)).cast("double")
        derived[in_variant("vwap", n)] = F.when(volume > 0, notional / volume)
    return [derived.get(name, F.col(name)).alias(name) for name in bar_columns(policy)]
