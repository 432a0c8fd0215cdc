"""Columns that say what a trade may update, by its sale conditions and its session."""

from __future__ import annotations

from datetime import date, time
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline import conditions as sale
from tapeline import sessions
from tapeline.conditions import ConditionPolicy
from tapeline.sessions import AssetClass, Session

_SATURDAY_AND_SUNDAY: Final = (7, 1)


def sets_high_low(policy: ConditionPolicy) -> Column:
    """Tell whether a trade may set high and low."""
    return _is_eligible(policy, sale.NO_PRICE | sale.NO_FIELD)


def sets_last(policy: ConditionPolicy) -> Column:
    """Tell whether a trade may set open and close."""
    return _is_eligible(policy, sale.NO_PRICE | sale.NO_FIELD | sale.NO_LAST)


def adds_volume() -> Column:
    """Tell whether a trade's size counts; the same under every policy."""
    return _no_conditions() | ~_has_any(sale.NO_VOLUME)


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
    """Tell whether the day in New York is one of some; as text, since each literal is a call."""
    dates = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return F.expr(f"to_date(from_utc_timestamp({instant}, '{sessions.NEW_YORK}')) IN ({dates})")


def _minute(clock: time) -> int:
    return clock.hour * 60 + clock.minute


def _is_eligible(policy: ConditionPolicy, disqualifying: frozenset[str]) -> Column:
    if policy is ConditionPolicy.ALL:
        return _true()
    if policy is ConditionPolicy.SIP_ODDLOT:
        disqualifying = disqualifying - {sale.ODD_LOT}
    is_unknown = F.size(F.array_except("conditions", _strings(sale.KNOWN))) > 0
    # The local time costs more than all the rest: it is worked out for these trades only.
    out_of_hours = F.when(
        _has_any(sale.EXTENDED_HOURS), _new_york_session("event_time") != Session.REGULAR.value
    ).otherwise(_true())
    eligible = ~_has_any(disqualifying) & ~is_unknown & out_of_hours
    return F.when(_no_conditions(), _true()).otherwise(eligible)


def _true() -> Column:
    return F.lit(True)  # noqa: FBT003 - a literal column


def _no_conditions() -> Column:
    return F.col("conditions").isNull() | (F.size("conditions") == 0)


def _has_any(ids: frozenset[str]) -> Column:
    return F.arrays_overlap("conditions", _strings(ids))


def _strings(ids: frozenset[str]) -> Column:
    return F.array(*(F.lit(i) for i in sorted(ids)))
