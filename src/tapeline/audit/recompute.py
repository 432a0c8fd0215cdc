"""Bars from trades by docs/bars.md, in SQL and Python: a second way to the same values.

Only data is shared with the code that is audited, the compiled rules and the hours of exchanges;
and what a bar's name and start tell, its session and asset class.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, Final

import duckdb
import pyarrow as pa

from tapeline.audit.tables import WINDOWS, conditions_of, query, table_of, window_key
from tapeline.model import sessions
from tapeline.model.bar import WindowKey
from tapeline.model.errors import AuditError
from tapeline.model.exchange_hours import exchange
from tapeline.model.rules import FIELDS, Rules
from tapeline.model.sessions import Session
from tapeline.model.times import from_millis, to_millis
from tapeline.model.venues import AMERICAN

AMOUNT: Final = pa.decimal128(38, 10)
"""Volume and notional."""
_AMOUNT_LIMIT: Final = Decimal(10**28)
_TEN_PLACES: Final = Decimal("1e-10")
_PRICE_PLACES: Final = Decimal("1e-26")
_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_UP)

_WANTED: Final = pa.schema(
    [
        *WINDOWS,
        ("policy", pa.string()),
        ("session", pa.string()),
        ("small", pa.float64()),
    ]
)
_KINDS: Final = pa.schema(
    {
        **dict.fromkeys(("conditions", "policy", "session"), pa.string()),
        "is_small": pa.bool_(),
        **dict.fromkeys(("sets_high_low", "sets_last", "adds_volume", "at_night"), pa.bool_()),
    }
)
_OPEN: Final = pa.schema({"five_ms": pa.int64(), "is_open": pa.bool_()})
_AMOUNTS: Final = pa.schema(
    {"price": pa.float64(), "counted": pa.float64(), "size": AMOUNT, "notional": AMOUNT}
)

_COMPLETE_TRADES: Final = """
    SELECT
        trades.*,
        policy,
        session,
        coalesce(volume > 0 AND volume < small, FALSE) AS is_small,
        event_time_ms // 300000 * 300000 AS five_ms
    FROM trades JOIN wanted USING (symbol, bucket_ms)
    WHERE price IS NOT NULL AND volume IS NOT NULL AND sequence IS NOT NULL
"""
_ELIGIBLE: Final = """
    SELECT
        trades.* EXCLUDE (volume),
        sets_high_low AND NOT (at_night AND is_open) AS sets_high_low,
        sets_last AND NOT (at_night AND is_open) AS sets_last,
        if(adds_volume, volume, 0.0) AS counted
    FROM trades
    JOIN kinds
        ON trades.policy = kinds.policy
        AND trades.session = kinds.session
        AND trades.is_small = kinds.is_small
        AND trades.conditions IS NOT DISTINCT FROM kinds.conditions
    JOIN open_hours USING (five_ms)
"""
_DISTINCT_KINDS: Final = "SELECT DISTINCT conditions, policy, session, is_small FROM trades"
# By event time, then rank of arrival; the low bits of the id decide what is left.
_BARS: Final = """
    WITH placed AS (
        SELECT *, row_number() OVER (
            ORDER BY event_time_ms, least(sequence, 65535), trade_id & 1048575
        ) AS place
        FROM trades JOIN amounts USING (price, counted)
    )
    SELECT
        symbol,
        bucket_ms,
        policy,
        arg_min(price, place) FILTER (WHERE sets_last) AS open,
        max(price) FILTER (WHERE sets_high_low) AS high,
        min(price) FILTER (WHERE sets_high_low) AS low,
        arg_max(price, place) FILTER (WHERE sets_last) AS close,
        sum(size) AS volume,
        sum(notional) AS notional,
        count(*) AS trade_count,
        count(*) FILTER (WHERE NOT sets_high_low) AS unpriced_count,
        coalesce(sum(size) FILTER (WHERE NOT sets_high_low), 0) AS unpriced_volume,
        min(event_time_ms) AS first_trade_time,
        max(event_time_ms) AS last_trade_time
    FROM placed GROUP BY ALL
"""


def recompute_bars(
    trades: pa.Table, policies: Mapping[WindowKey, Rules]
) -> dict[WindowKey, dict[str, Any]]:
    """Return the fields of `tapeline.model.bar.VALUES` of each window that has a policy and trades.

    Args:
        trades: every trade of the windows, columns as TRADES; one that lacks its price, size
            or rank counts for nothing.
        policies: which trades set and add to what, for each window.

    Raises:
        AuditError: an amount does not fit into decimal(38, 10).
    """
    wanted = [
        (
            *(symbol, to_millis(start), rules.name, sessions.session_at(symbol, start).value),
            rules.below_size and rules.below_size.size,
        )
        for (symbol, start), rules in policies.items()
    ]
    complete = query(_COMPLETE_TRADES, trades=trades, wanted=table_of(_WANTED, wanted))
    eligible = _with_eligibility(complete, {rules.name: rules for rules in policies.values()})
    try:
        bars = query(_BARS, trades=eligible, amounts=_amounts(eligible))
    except duckdb.OutOfRangeException as error:
        message = f"Trades of one bar add up to more than decimal(38, 10): {error}"
        raise AuditError(message) from error
    return dict(_finished(row) for row in bars.to_pylist())


def _finished(row: dict[str, Any]) -> tuple[WindowKey, dict[str, Any]]:
    """Add what is worked out once a bar."""
    symbol, window_start = key = window_key(row.pop("symbol"), row.pop("bucket_ms"))
    # DuckDB takes a sum of 39 digits for a decimal(38, 10).
    if max(row["volume"].copy_abs(), row["notional"].copy_abs()) >= _AMOUNT_LIMIT:
        message = f"The trades of {symbol} at {window_start} add up to more than decimal(38, 10)."
        raise AuditError(message)
    row["vwap"] = float(row["notional"]) / float(row["volume"]) if row["volume"] else None
    for name in ("first_trade_time", "last_trade_time"):
        row[name] = from_millis(row[name])
    row["session"] = sessions.session_at(symbol, window_start).value
    row["asset_class"] = sessions.asset_class_of(symbol).value
    return key, row


def _with_eligibility(trades: pa.Table, rules: Mapping[str, Rules]) -> pa.Table:
    """Add what each trade may update, and its size where that is volume: `counted`."""
    kinds = [tuple(kind.values()) for kind in query(_DISTINCT_KINDS, trades=trades).to_pylist()]
    times = query("SELECT DISTINCT five_ms FROM trades", trades=trades)["five_ms"].to_pylist()
    return query(
        _ELIGIBLE,
        trades=trades,
        kinds=table_of(_KINDS, [(*kind, *_eligibility(rules[kind[1]], *kind)) for kind in kinds]),
        open_hours=table_of(_OPEN, [(ms, _is_open(from_millis(ms))) for ms in times]),
    )


def _eligibility(
    rules: Rules, conditions: str | None, _policy: str, session: str, is_small: object
) -> tuple[bool, bool, bool, bool]:
    """Return whether such a trade sets high and low, sets last, adds volume, and only at night.

    `at_night` trades set prices outside the regular hours of New York only.
    """
    ids = frozenset(conditions_of(conditions))
    denied = [rules.sessions.get(Session(session), 0)]
    if is_small and rules.below_size is not None:
        denied.append(rules.below_size.withheld)
    if not ids <= rules.conditions.keys():
        denied.append(rules.unknown)
    found = [rules.conditions[one] for one in ids & rules.conditions.keys()]
    of_hours = [rule for rule in found if rule.sessions is not None]
    denied += [rule.withheld for rule in found if rule.sessions is None]
    if not rules.asks_new_york:
        denied += [rule.withheld for rule in of_hours if session in (rule.sessions or ())]
        of_hours = []
    may_set = {name for name, bit in FIELDS.items() if not any(bits & bit for bits in denied)}
    return (
        "high_low" in may_set,
        "open_close" in may_set,
        "volume" in may_set,
        bool(of_hours),
    )


def _is_open(instant: datetime) -> bool:
    """Return whether American shares are in regular hours; these turn at full five minutes."""
    new_york = exchange(AMERICAN)
    local = instant.astimezone(new_york.zone)
    hours = new_york.hours_on(local.date()) or ()
    return any(start <= local.time() < end for start, end in hours)


def _amounts(trades: pa.Table) -> pa.Table:
    """Return `size` and `notional`, rounded to ten places, of each distinct price and `counted`.

    Both are worked out in Python's decimals.
    """
    pairs = query("SELECT DISTINCT price, counted FROM trades", trades=trades)
    prices, counted = pairs["price"].to_pylist(), pairs["counted"].to_pylist()
    try:
        sizes = [_decimal(volume) for volume in counted]
        notionals = [_product(price, size) for price, size in zip(prices, sizes, strict=True)]
        return pa.table([prices, counted, sizes, notionals], schema=_AMOUNTS)
    except (InvalidOperation, pa.ArrowInvalid) as error:
        message = f"Silver has a trade whose price or size is no decimal(38, 10): {error}"
        raise AuditError(message) from error


def _decimal(value: float) -> Decimal:
    # The shortest text that reads back as this number is what the feed sent.
    return Decimal(repr(value)).quantize(_TEN_PLACES, context=_EXACT)


def _product(price: float, size: Decimal) -> Decimal:
    exact = Decimal(repr(price)).quantize(_PRICE_PLACES, context=_EXACT)
    return _EXACT.multiply(exact, size).quantize(_TEN_PLACES, context=_EXACT)
