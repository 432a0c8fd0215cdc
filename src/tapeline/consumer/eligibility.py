"""Columns that say what a trade may update, by its sale conditions and its session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, time
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.model import conditions as sale
from tapeline.model import sessions
from tapeline.model.conditions import ConditionPolicy
from tapeline.model.sessions import AssetClass, Session

HIGH_LOW: Final = 1
LAST: Final = 2
"""Open and close."""
VOLUME: Final = 4
_PRICES: Final = HIGH_LOW | LAST

_POSITIONS: Final = 4
"""The most conditions that the consolidated tape gives a trade; longer lists are seen as sets."""
_ONE: Final = "{condition}"
_SATURDAY_AND_SUNDAY: Final = (7, 1)


def withheld(policy: ConditionPolicy) -> Column:
    """Return the fields of its bar that a trade may not update, as bits.

    Column `conditions` is looked up by position, which costs a fraction of what sets made of each
    trade's list cost; `event_time` is asked only for trades that are reported as out of hours.

    Args:
        policy: which trades set prices.

    Returns:
        `HIGH_LOW`, `LAST` (open and close) and `VOLUME` or-ed; 0 for a regular trade.
    """
    bits = F.expr(_for_each_condition(_bits_of(policy), " | ", _bits_of_a_long_list(policy)))
    if policy is ConditionPolicy.ALL:
        return bits
    ids = _texts(sale.EXTENDED_HOURS)
    is_out_of_hours = _for_each_condition(
        f"{_ONE} IN ({ids})", " OR ", f"arrays_overlap(conditions, array({ids}))"
    )
    # The local time costs more than all the rest: it is worked out for these trades only.
    is_by_day = _new_york_session("event_time") == Session.REGULAR.value
    by_day = F.when(is_by_day, _PRICES).otherwise(0)
    return bits.bitwiseOR(F.when(F.expr(is_out_of_hours), by_day).otherwise(0))


def may_update(field: int) -> Column:
    """Return whether a trade may update a field (`HIGH_LOW`, `LAST`, `VOLUME`), by `withheld`."""
    return F.col("withheld").bitwiseAND(F.lit(field)) == 0


def asset_class() -> Column:
    """Return the asset class of column `symbol`, as `sessions.asset_class_of`."""
    venue = F.substring_index("symbol", ":", 1)
    return (
        F.when(~F.contains("symbol", F.lit(":")), AssetClass.EQUITY.value)
        .when(venue.isin(*sorted(sessions.FX_VENUES)), AssetClass.FX.value)
        .otherwise(AssetClass.CRYPTO.value)
    )


def session_at(instant: str) -> Column:
    """Return the session of column `symbol` at a timestamp, as `sessions.session_at`."""
    return F.when(asset_class() == AssetClass.EQUITY.value, _new_york_session(instant)).otherwise(
        Session.CONTINUOUS.value
    )


def _new_york_session(instant: str) -> Column:
    local = F.from_utc_timestamp(instant, sessions.NEW_YORK)
    minute = F.hour(local) * 60 + F.minute(local)
    is_weekend = F.dayofweek(local).isin(*_SATURDAY_AND_SUNDAY)
    is_trading_day = ~is_weekend & ~_is_one_of(sessions.holidays(), instant)
    close = F.when(
        _is_one_of(sessions.half_days(), instant), _minute(sessions.HALF_DAY_CLOSE)
    ).otherwise(_minute(sessions.REGULAR_CLOSE))
    return (
        F.when(~is_trading_day | (minute < _minute(sessions.PRE_OPEN)), Session.CLOSED.value)
        .when(minute < _minute(sessions.REGULAR_OPEN), Session.PRE.value)
        .when(minute < close, Session.REGULAR.value)
        .when(minute < _minute(sessions.POST_CLOSE), Session.POST.value)
        .otherwise(Session.CLOSED.value)
    )


def _is_one_of(days: frozenset[date], instant: str) -> Column:
    """Return whether the day in New York is one of some; as text, since each literal is a call."""
    dates = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return F.expr(f"to_date(from_utc_timestamp({instant}, '{sessions.NEW_YORK}')) IN ({dates})")


def _minute(clock: time) -> int:
    return clock.hour * 60 + clock.minute


def _bits_by_id(policy: ConditionPolicy) -> dict[str, int]:
    """Return what each known id withholds."""
    bits = dict.fromkeys(sorted(sale.KNOWN, key=int), 0)
    if policy is not ConditionPolicy.ALL:
        bits |= dict.fromkeys(sale.NO_LAST, LAST)
        bits |= dict.fromkeys(sale.NO_PRICE | sale.NO_FIELD, _PRICES)
    if policy is ConditionPolicy.SIP_ODDLOT:
        bits[sale.ODD_LOT] = 0
    return bits | {condition: bits[condition] | VOLUME for condition in sale.NO_VOLUME}


def _unknown(policy: ConditionPolicy) -> int:
    """Return what an id without a rule withholds."""
    return 0 if policy is ConditionPolicy.ALL else _PRICES


# SQL, since each literal of a column is a call to the JVM, and each batch makes its plan again.


def _for_each_condition(expression: str, operator: str, of_a_long_list: str) -> str:
    """Join an expression of each condition, `_ONE` in it; a long list has one of its own."""
    each = operator.join(
        f"({expression.replace(_ONE, f'conditions[{n}]')})" for n in range(_POSITIONS)
    )
    return f"CASE WHEN size(conditions) > {_POSITIONS} THEN {of_a_long_list} ELSE {each} END"


def _bits_of(policy: ConditionPolicy) -> str:
    known = ", ".join(f"'{condition}', {bits}" for condition, bits in _bits_by_id(policy).items())
    return f"nvl2({_ONE}, nvl(map({known})[{_ONE}], {_unknown(policy)}), 0)"


def _bits_of_a_long_list(policy: ConditionPolicy) -> str:
    ids_by_bits: dict[int, list[str]] = defaultdict(list)
    for condition, bits in _bits_by_id(policy).items():
        ids_by_bits[bits].append(condition)
    found = [
        f"if(arrays_overlap(conditions, array({_texts(ids)})), {bits}, 0)"
        for bits, ids in ids_by_bits.items()
    ]
    unknown = f"array_except(conditions, array({_texts(_bits_by_id(policy))}))"
    return " | ".join([*found, f"if(size({unknown}) > 0, {_unknown(policy)}, 0)"])


def _texts(ids: Iterable[str]) -> str:
    return ", ".join(f"'{condition}'" for condition in ids)
