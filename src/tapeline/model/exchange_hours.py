"""When exchanges are open: `exchange_hours.csv`, and the days that differ, `exchange_days.csv`.

`scripts/make_exchange_days.py` writes both, from `exchange_calendars`. They end with 2049, and
earlier where nobody can know: the holidays of Shanghai and Shenzhen are decided year by year, and
2026 is the last year that is known. London's hours end with its last continuous trading at 16:30;
auctions before and after it are no part of them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

Hours = tuple[tuple[time, time], ...]
"""When an exchange opens and closes in a day, by its own clock; none on a day without trading."""

_FOLDER: Final = files("tapeline.model")
_SATURDAY: Final = 5
_CLOSED: Final = "closed"


@dataclass(frozen=True, slots=True)
class Exchange:
    """The hours of an exchange.

    Attributes:
        zone: where its clocks are.
        periods: first and last day of each time in which the usual hours were the same, and these.
        exceptions: weekdays without trading, and with other hours.
    """

    zone: ZoneInfo
    periods: tuple[tuple[date, date, Hours], ...]
    exceptions: Mapping[date, Hours]

    def hours_on(self, day: date) -> Hours | None:
        """Return the hours of a day; None where they are not known."""
        for first, last, hours in reversed(self.periods):
            if first <= day <= last:
                return () if day.weekday() >= _SATURDAY else self.exceptions.get(day, hours)
        return None


@lru_cache
def exchange(calendar: str) -> Exchange:
    """Return an exchange by its calendar, e.g. `XLON`, one of those in `exchange_hours.csv`."""
    rows = list(_rows("exchange_hours.csv", calendar))
    periods = tuple(
        (date.fromisoformat(row["first"]), date.fromisoformat(row["last"]), _hours(row["hours"]))
        for row in rows
    )
    exceptions = {
        date(int(row["year"]), int(day[:2]), int(day[2:])): _hours(row["hours"])
        for row in _rows("exchange_days.csv", calendar)
        for day in row["days"].split()
    }
    return Exchange(ZoneInfo(rows[0]["zone"]), periods, exceptions)


def _rows(name: str, calendar: str) -> Iterator[dict[str, str]]:
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return (row for row in csv.DictReader(lines) if row["calendar"] == calendar)


@lru_cache
def _hours(text: str) -> Hours:
    """Read e.g. `09:00-11:30 12:30-15:00`."""
    if text == _CLOSED:
        return ()
    spans = (span.split("-") for span in text.split())
    return tuple((time.fromisoformat(start), time.fromisoformat(end)) for start, end in spans)
