"""What a sale condition lets a trade set: the published table, written out once more.

It is not the product's own table, so that a bar made from it is a second opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

# id: high and low, open and close, volume. X: prices outside New York's regular hours only.
_TABLE: Final = """
1 YYY, 2 YYY, 4 YYY, 6 YYY, 7 YYY, 8 YYY, 13 YYY, 14 YYY, 15 YYY, 18 YYY, 19 YYY, 23 YYY, 28 YYY,
29 YYY, 31 YYY, 33 YYY, 34 YYY, 35 YYY, 36 YYY, 41 YYY, 39 YYN, 9 YNY, 21 YNY, 30 YNY, 32 YNY,
3 NNY, 5 NNY, 10 NNY, 11 NNY, 17 NNY, 22 NNY, 26 NNY, 27 NNY, 37 NNY, 38 NNY, 40 NNY, 24 XXY,
25 XXY, 16 NNN, 20 NNN, 12 YYY
"""
_RULES: Final = dict(entry.split() for entry in _TABLE.replace("\n", " ").split(","))
_UNKNOWN: Final = "NNY"
_NEW_YORK: Final = ZoneInfo("America/New_York")
_DAY_MS: Final = 86_400_000
_SATURDAY: Final = 5
_NEVER: Final = (0, 0)


class Eligibility(NamedTuple):
    """What a trade may set under policy `sip+oddlot`."""

    high_low: bool
    last: bool
    volume: bool
    at_night: bool
    """Prices outside regular hours only."""


@lru_cache(maxsize=4096)
def eligibility(conditions: tuple[str, ...] | None) -> Eligibility:
    """Return what such a trade may set; one "no" among its conditions is a no."""
    rules = [_RULES.get(condition, _UNKNOWN) for condition in conditions or ()]
    high_low, last, volume = ("N" not in {rule[field] for rule in rules} for field in range(3))
    return Eligibility(high_low, last, volume, any(rule[0] == "X" for rule in rules))


@lru_cache(maxsize=4096)
def regular_hours_ms(utc_day: int) -> tuple[int, int]:
    """Return the regular hours (ms since the epoch) of a day, counted from 1970.

    It knows weekends and summer time, no holidays: loads and tapes are of trading days.
    """
    day = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(days=utc_day)
    if day.weekday() >= _SATURDAY:
        return _NEVER
    opening, close = (
        int(datetime(day.year, day.month, day.day, *clock, tzinfo=_NEW_YORK).timestamp() * 1000)
        for clock in ((9, 30), (16, 0))
    )
    return opening, close


def sets_prices(rule: Eligibility, event_time_ms: int) -> bool:
    """Return whether the session allows a trade of this rule to set prices."""
    if not rule.at_night:
        return True
    opening, close = regular_hours_ms(event_time_ms // _DAY_MS)
    return not opening <= event_time_ms < close


def rules_of(lists: Sequence[tuple[str, ...] | None]) -> list[Eligibility]:
    """Return the rule of each list of conditions."""
    return [eligibility(conditions) for conditions in lists]
