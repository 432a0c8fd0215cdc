"""Write the holidays and half days of the New York Stock Exchange, 2000 to 2049.

`python scripts/make_exchange_days.py`, with `exchange_calendars` installed (it is among the
packages for the tests). Run it when the exchange announces days; a test compares the file.
"""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

from exchange_calendars import get_calendar
from pandas import bdate_range

FILE = Path(__file__).parent.parent / "src" / "tapeline" / "model" / "exchange_days.csv"
FIRST_DAY, LAST_DAY = "2000-01-01", "2049-12-31"

with warnings.catch_warnings():
    # The library warns of what pandas will change under it.
    warnings.simplefilter("ignore")
    calendar = get_calendar("XNYS", start=FIRST_DAY, end=LAST_DAY)

holidays = bdate_range(FIRST_DAY, LAST_DAY).difference(calendar.sessions)
days = [(day.date(), "holiday") for day in holidays]
days += [(day.date(), "half day") for day in calendar.early_closes]

with FILE.open("w", encoding="utf-8", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("date", "kind"))
    rows.writerows(sorted(days))
print(f"{FILE}: {len(days)} days")
