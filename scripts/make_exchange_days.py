"""Write the hours of exchanges and the days that differ from them, 2000 to 2049.

`python scripts/make_exchange_days.py`, with `exchange_calendars` installed (it is among the
packages for the tests). Run it when an exchange announces days or hours; a test compares the files.

Two files of the package come from it. `exchange_hours.csv` has the usual hours, a row for each time
in which they did not change; nothing is known beyond the last row of a calendar. It ends in 2049,
and earlier where a holiday goes by a calendar that its government publishes year by year, as
Shanghai's do. `exchange_days.csv` has what differs: the weekdays without trading, and those with
other hours, as month and day.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd
from exchange_calendars import ExchangeCalendar, get_calendar

FOLDER = Path(__file__).parent.parent / "src" / "tapeline" / "model"
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2049, 12, 31)
CALENDARS = (
    *("XNYS", "XTSE", "XLON", "XPAR", "XAMS", "XBRU", "XLIS", "XMIL", "XMAD", "XETR", "XSWX"),
    *("XWBO", "XSTO", "XHEL", "XCSE", "XOSL", "XTKS", "XHKG", "XSHG"),
)
CLOSED = "closed"
ONE_DAY = timedelta(days=1)


def calendar_of(name: str) -> ExchangeCalendar:
    """Return a calendar of `exchange_calendars` as far as it knows its days."""
    with warnings.catch_warnings():
        # The library warns of what pandas will change under it.
        warnings.simplefilter("ignore")
        bound = get_calendar(name).bound_max()
        last = LAST_DAY if bound is None else min(LAST_DAY, bound.date())
        return get_calendar(name, start=FIRST_DAY.isoformat(), end=last.isoformat())


def last_day_of(calendar: ExchangeCalendar) -> date:
    """Return the end of the last year that a calendar knows; it may be no day of trading."""
    return calendar.last_session.date().replace(month=12, day=31)


def hours_of(calendar: ExchangeCalendar) -> dict[date, str]:
    """Return the hours of each weekday in the exchange's own time, as `09:00-11:30 12:30-15:00`.

    Raises:
        ValueError: the exchange trades at a weekend, or changes at no full five minutes.
    """
    days = pd.bdate_range(FIRST_DAY, last_day_of(calendar))
    hours = dict.fromkeys((day.date() for day in days), CLOSED)
    for session, row in calendar.schedule.iterrows():
        points = [row["open"], row["break_start"], row["break_end"], row["close"]]
        local = [point.tz_convert(calendar.tz) for point in points if not pd.isna(point)]
        if session.date() not in hours or any(point.minute % 5 for point in local):
            message = f"{calendar.name} {session.date()}: {local}"
            raise ValueError(message)
        clocks = [f"{point:%H:%M}" for point in local]
        hours[session.date()] = " ".join(map("-".join, zip(clocks[::2], clocks[1::2], strict=True)))
    return hours


def periods_of(calendar: ExchangeCalendar) -> Iterator[tuple[date, date]]:
    """Yield the times, first and last day, in which the usual hours are the same."""
    last = last_day_of(calendar)
    changes = {
        change.date()
        for times in (
            calendar.open_times,
            calendar.close_times,
            calendar.break_start_times or (),
            calendar.break_end_times or (),
        )
        for change, _ in times
        if change is not None and FIRST_DAY < change.date() <= last
    }
    for first, following in pairwise((FIRST_DAY, *sorted(changes), last + ONE_DAY)):
        yield first, following - ONE_DAY


def usual(hours: Iterable[str]) -> str:
    """Return the hours of most days."""
    ((most, _),) = Counter(h for h in hours if h != CLOSED).most_common(1)
    return most


def write(name: str, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Write a file of the package."""
    path = FOLDER / name
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(header)
        lines.writerows(rows)
    print(f"{path}: {len(rows)} rows, {path.stat().st_size:,} bytes")


def main() -> None:
    """Write both files."""
    periods: list[tuple[object, ...]] = []
    exceptions: list[tuple[object, ...]] = []
    for name in CALENDARS:
        calendar = calendar_of(name)
        hours = hours_of(calendar)
        found: dict[tuple[int, str], list[str]] = defaultdict(list)
        for first, last in periods_of(calendar):
            normal = usual(h for day, h in hours.items() if first <= day <= last)
            periods.append((name, calendar.tz, first, last, normal))
            for day, some in hours.items():
                if first <= day <= last and some != normal:
                    found[day.year, some].append(f"{day:%m%d}")
        exceptions += [(name, *key, " ".join(days)) for key, days in sorted(found.items())]
    write("exchange_hours.csv", ("calendar", "zone", "first", "last", "hours"), periods)
    write("exchange_days.csv", ("calendar", "year", "hours", "days"), exceptions)


if __name__ == "__main__":
    main()
