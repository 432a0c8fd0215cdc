"""Columns that say what a trade may update, by its sale conditions and its session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, time
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.model import conditions as sale
from tapeline.model.conditions import ConditionPolicy
from tapeline.model.exchange_hours import Hours, exchange
from tapeline.model.sessions import NEW_YORK
from tapeline.model.venues import AMERICAN

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
    by_day = F.when(is_regular("event_time"), _PRICES).otherwise(0)
    return bits.bitwiseOR(F.when(F.expr(is_out_of_hours), by_day).otherwise(0))


def may_update(field: int) -> Column:
    """Return whether a trade may update a field (`HIGH_LOW`, `LAST`, `VOLUME`), by `withheld`."""
    return F.col("withheld").bitwiseAND(F.lit(field)) == 0


def is_regular(instant: str) -> Column:
    """Return whether American shares are in their regular hours at a timestamp.

    The same as `sessions.session_at`, whatever the symbol: only the American tape marks trades as
    out of hours. The session of a bar is no column: it is worked out once a bar, in Python.
    """
    hours_by_day = exchange(AMERICAN)
    days_by_hours: dict[Hours, set[date]] = defaultdict(set)
    for day, hours in hours_by_day.exceptions.items():
        days_by_hours[hours].add(day)
    local = F.from_utc_timestamp(instant, NEW_YORK)
    minute = F.hour(local) * 60 + F.minute(local)
    is_open = F.when(F.dayofweek(local).isin(*_SATURDAY_AND_SUNDAY), F.lit(False))  # noqa: FBT003 - a literal column
    for hours, days in days_by_hours.items():
        is_open = is_open.when(_is_one_of(days, instant), _is_within(hours, minute))
    for first, last, hours in hours_by_day.periods:
        is_in = F.to_date(local).between(F.lit(first), F.lit(last))
        is_open = is_open.when(is_in, _is_within(hours, minute))
    return is_open.otherwise(F.lit(False))  # noqa: FBT003 - a literal column


def _is_within(hours: Hours, minute: Column) -> Column:
    found = F.lit(False)  # noqa: FBT003 - a literal column
    for start, end in hours:
        found |= (minute >= _minute(start)) & (minute < _minute(end))
    return found


def _is_one_of(days: Iterable[date], instant: str) -> Column:
    """Return whether the day in New York is one of some; as text, since each literal is a call."""
    dates = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return F.expr(f"to_date(from_utc_timestamp({instant}, '{NEW_YORK}')) IN ({dates})")


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
