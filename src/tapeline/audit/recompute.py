"""Bars from trades by docs/bars.md, in Polars and Python: a second way to the same values.

Only tables of data are shared with the code that is audited: the sale conditions' ids, and
the exchange's days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import time
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

import polars as pl

from tapeline import conditions as sale
from tapeline import sessions
from tapeline.audit.frames import TRADES, WINDOW, conditions_of, window_key
from tapeline.bar import WindowKey
from tapeline.conditions import ConditionPolicy
from tapeline.times import from_millis, to_millis

AMOUNT: Final = pl.Decimal(38, 10)
"""Volume and notional."""
_TEN_PLACES: Final = Decimal("1e-10")
_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_UP)
_LOW_20_BITS: Final = (1 << 20) - 1
_LARGEST_RANK: Final = (1 << 16) - 1
_FRIDAY: Final = 5


def recompute_bars(
    trades: pl.DataFrame, policies: Mapping[WindowKey, str]
) -> dict[WindowKey, dict[str, Any]]:
    """Return the fields of `tapeline.bar.VALUES` of each window that has a policy and trades.

    Args:
        trades: every trade of the windows, columns as TRADES; one that lacks its price, size
            or rank counts for nothing.
        policies: which trades set prices, for each window.
    """
    wanted = pl.DataFrame(
        [(symbol, to_millis(start), policy) for (symbol, start), policy in policies.items()],
        {**{name: TRADES[name] for name in WINDOW}, "policy": pl.String()},
        orient="row",
    )
    eligible = _with_amounts(
        _with_eligibility(
            trades.drop_nulls(["price", "volume", "sequence"]).join(wanted, on=WINDOW)
        )
    )
    # By event time, then rank of arrival; the low bits of the id decide what is left.
    rank = pl.min_horizontal("sequence", pl.lit(_LARGEST_RANK))
    ordered = eligible.sort("event_time_ms", rank, pl.col("trade_id").and_(_LOW_20_BITS))
    price = pl.col("price")
    last, high_low = price.filter(pl.col("sets_last")), price.filter(pl.col("sets_high_low"))
    bars = ordered.group_by(*WINDOW, "policy").agg(
        last.first().alias("open"),
        high_low.max().alias("high"),
        high_low.min().alias("low"),
        last.last().alias("close"),
        pl.col("size").sum().alias("volume"),
        pl.col("notional").sum(),
        pl.len().alias("trade_count"),
        (~pl.col("sets_high_low")).sum().alias("unpriced_count"),
        pl.col("size").filter(~pl.col("sets_high_low")).sum().alias("unpriced_volume"),
        pl.col("event_time_ms").min().alias("first_trade_time"),
        pl.col("event_time_ms").max().alias("last_trade_time"),
    )
    return dict(_finished(row) for row in bars.rows(named=True))


def _finished(row: dict[str, Any]) -> tuple[WindowKey, dict[str, Any]]:
    """Add what is worked out once a bar."""
    symbol, window_start = key = window_key(row.pop("symbol"), row.pop("bucket_ms"))
    volume = row["volume"]
    row["vwap"] = float(row["notional"]) / float(volume) if volume else None
    for name in ("first_trade_time", "last_trade_time"):
        row[name] = from_millis(row[name])
    row["session"] = sessions.session_at(symbol, window_start).value
    row["asset_class"] = sessions.asset_class_of(symbol).value
    return key, row


def _with_eligibility(trades: pl.DataFrame) -> pl.DataFrame:
    """Add what each trade may update: `sets_high_low`, `sets_last`, `adds_volume`."""
    kinds = trades.select("conditions", "policy").unique().rows()
    flags = pl.DataFrame(
        [(*kind, *_eligibility(*kind)) for kind in kinds],
        {
            "conditions": pl.String,
            "policy": pl.String,
            **dict.fromkeys(("sets_high_low", "sets_last", "adds_volume", "at_night"), pl.Boolean),
        },
        orient="row",
    )
    is_out = pl.col("at_night") & _in_regular_hours()
    return trades.join(flags, on=["conditions", "policy"], nulls_equal=True).with_columns(
        pl.col("sets_high_low") & ~is_out, pl.col("sets_last") & ~is_out
    )


def _eligibility(conditions: str | None, policy: str) -> tuple[bool, bool, bool, bool]:
    """Return whether such a trade sets high and low, sets last, adds volume, and only at night.

    `at_night` trades set prices outside the regular hours of New York only.
    """
    ids = frozenset(conditions_of(conditions))
    adds_volume = not ids & sale.NO_VOLUME
    if not ids or policy == ConditionPolicy.ALL.value:
        return True, True, adds_volume, False
    no_price = sale.NO_PRICE | sale.NO_FIELD
    if policy == ConditionPolicy.SIP_ODDLOT.value:
        no_price -= {sale.ODD_LOT}
    sets_high_low = ids <= sale.KNOWN and not ids & no_price
    sets_last = sets_high_low and not ids & sale.NO_LAST
    return sets_high_low, sets_last, adds_volume, bool(ids & sale.EXTENDED_HOURS)


def _in_regular_hours() -> pl.Expr:
    utc = pl.from_epoch("event_time_ms", time_unit="ms").dt.replace_time_zone("UTC")
    local = utc.dt.convert_time_zone(sessions.NEW_YORK)
    day, clock = local.dt.date(), local.dt.time()
    is_open = (local.dt.weekday() <= _FRIDAY) & ~day.is_in(sorted(sessions.holidays()))
    close = (
        pl.when(day.is_in(sorted(sessions.half_days())))
        .then(_time(sessions.HALF_DAY_CLOSE))
        .otherwise(_time(sessions.REGULAR_CLOSE))
    )
    return is_open & (clock >= _time(sessions.REGULAR_OPEN)) & (clock < close)


def _time(value: time) -> pl.Expr:
    return pl.lit(value, pl.Time)


def _with_amounts(trades: pl.DataFrame) -> pl.DataFrame:
    """Add `size` and `notional`, exact to ten places, of what counts as volume.

    Both are worked out in Python's decimals, once for each distinct price and size.
    """
    counted = trades.with_columns(
        counted=pl.when("adds_volume").then("volume").otherwise(pl.lit(0.0))
    )
    pairs = counted.select("price", "counted").unique()
    sizes = [_decimal(volume) for volume in pairs["counted"]]
    prices = [_decimal(price) for price in pairs["price"]]
    return counted.join(
        pairs.with_columns(
            _amounts("size", sizes), _amounts("notional", map(_product, prices, sizes))
        ),
        on=["price", "counted"],
    )


def _amounts(name: str, values: Iterable[Decimal]) -> pl.Series:
    return pl.Series(name, list(values), AMOUNT)


def _decimal(value: float) -> Decimal:
    # The shortest text that reads back as this number is what the feed sent.
    return Decimal(repr(value)).quantize(_TEN_PLACES, context=_EXACT)


def _product(price: Decimal, size: Decimal) -> Decimal:
    return _EXACT.multiply(price, size).quantize(_TEN_PLACES, context=_EXACT)
