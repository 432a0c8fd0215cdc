"""Columns that say what a trade may update, by its sale conditions, its size and its session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.model.exchange_hours import Hours, exchange
from tapeline.model.rules import PRICES, Rules
from tapeline.model.sessions import NEW_YORK
from tapeline.model.venues import AMERICAN

_POSITIONS: Final = 4
"""The most conditions that the consolidated tape gives a trade; longer lists are seen as sets."""
_SATURDAY_AND_SUNDAY: Final = (7, 1)


def withheld(rules: Rules, variant: int) -> Column:
    """Return the fields of its bar that a trade may not update, as bits of `model/rules.py`.

    Column `conditions` is looked up by position, which costs a fraction of what sets made of each
    trade's list cost; `event_time` is asked only for trades that are reported as out of hours.

    Args:
        rules: which trades set and add to what.
        variant: the group of sessions that the trade's bar lies in.

    Returns:
        `HIGH_LOW`, `OPEN_CLOSE` and `VOLUME` or-ed; 0 for a regular trade.
    """
    bits = F.expr(" | ".join([_by_conditions(rules, variant), *_by_the_rest(rules, variant)]))
    ids = [c for c, rule in rules.conditions.items() if rule.sessions is not None]
    if not (rules.asks_new_york and ids):
        return bits
    texts = _texts(ids)
    is_out_of_hours = _for_each_condition(
        lambda one: f"{one} IN ({texts})", " OR ", f"arrays_overlap(conditions, array({texts}))"
    )
    # The local time costs more than all the rest: it is worked out for these trades only.
    by_day = F.when(is_regular("event_time"), PRICES).otherwise(0)
    return bits.bitwiseOR(F.when(F.expr(is_out_of_hours), by_day).otherwise(0))


def may_update(field: int, column: str) -> Column:
    """Return whether a trade may update a field, by a column of `withheld`."""
    return F.col(column).bitwiseAND(F.lit(field)) == 0


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


# SQL, since each literal of a column is a call to the JVM, and each batch makes its plan again.


def _by_the_rest(rules: Rules, variant: int) -> list[str]:
    """Return what a trade's session and its size withhold, where the rules name them."""
    session = next(iter(rules.variants[variant]))
    found = [str(rules.sessions[session])] if session in rules.sessions else []
    small = rules.below_size
    if small is not None:
        found.append(f"if(volume > 0 AND volume < {small.size!r}D, {small.withheld}, 0)")
    return found


def _by_conditions(rules: Rules, variant: int) -> str:
    session = next(iter(rules.variants[variant]))
    bits = {
        # What asks New York's clock is added by itself.
        condition: 0 if rule.sessions else rule.withheld
        for condition, rule in rules.in_session(session).items()
    }
    if not bits:
        return f"if(size(conditions) > 0, {rules.unknown}, 0)"
    known = ", ".join(f"{_text(condition)}, {some}" for condition, some in bits.items())
    return _for_each_condition(
        lambda one: f"nvl2({one}, nvl(map({known})[{one}], {rules.unknown}), 0)",
        " | ",
        _of_a_long_list(bits, rules.unknown),
    )


def _for_each_condition(
    expression: Callable[[str], str], operator: str, of_a_long_list: str
) -> str:
    """Join an expression of each condition; a long list has one of its own."""
    each = operator.join(f"({expression(f'conditions[{n}]')})" for n in range(_POSITIONS))
    return f"CASE WHEN size(conditions) > {_POSITIONS} THEN {of_a_long_list} ELSE {each} END"


def _of_a_long_list(bits: Mapping[str, int], unknown: int) -> str:
    ids_by_bits: dict[int, list[str]] = defaultdict(list)
    for condition, some in bits.items():
        ids_by_bits[some].append(condition)
    found = [
        f"if(arrays_overlap(conditions, array({_texts(ids)})), {some}, 0)"
        for some, ids in ids_by_bits.items()
    ]
    others = f"array_except(conditions, array({_texts(bits)}))"
    return " | ".join([*found, f"if(size({others}) > 0, {unknown}, 0)"])


def _texts(ids: Iterable[str]) -> str:
    return ", ".join(_text(condition) for condition in ids)


def _text(condition: str) -> str:
    """Return a text as SQL: any, since the conditions of a rule file are."""
    # Spark puts variables in the place of `${…}` wherever it reads SQL.
    escaped = condition.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\u0024")
    return f"'{escaped}'"
