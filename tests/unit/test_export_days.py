"""Which days an export writes, and what it says of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from tapeline.cli.export import summary
from tapeline.export.content import Kind, midnight, state_of_bars
from tapeline.export.job import ExportResult, day_of
from tapeline.model.threshold import parse_length
from tests.sample import START, a_bar, export_options

DAY = date(2024, 3, 15)
OPTIONS = export_options(
    symbols=frozenset({"AAPL"}), first=DAY, stop=date(2024, 3, 17), exact=False
)


@pytest.mark.parametrize(
    ("window_start", "day"),
    [
        ("2024-03-15T00:00:00+00:00", DAY),
        ("2024-03-15T23:55:00+00:00", DAY),
        ("2024-03-16T00:00:00+00:00", date(2024, 3, 16)),
        ("1969-12-31T23:55:00+00:00", date(1969, 12, 31)),
    ],
)
def test_a_window_belongs_to_its_day_in_utc(window_start, day):
    assert day_of(int(datetime.fromisoformat(window_start).timestamp() * 1000)) == day


def test_a_day_begins_at_midnight_utc():
    assert midnight(DAY) == datetime(2024, 3, 15, tzinfo=timezone.utc)


def test_the_last_day_is_before_the_one_given():
    days = [date(2024, 3, 14), DAY, date(2024, 3, 16), date(2024, 3, 17)]
    assert [OPTIONS.wants("AAPL", d) for d in days] == [False, True, True, False]
    assert not OPTIONS.wants("MSFT", DAY)
    assert replace(OPTIONS, symbols=None, first=None, stop=None).wants("MSFT", date(1999, 1, 1))


def test_a_folder_is_bound_to_what_changes_its_rows():
    assert OPTIONS.lasting("demo") == {
        "kind": "bars",
        "keyspace": "demo",
        "format": "parquet",
        "exact": False,
        "interval": "5m",
        "detail": False,
        "provisional": False,
        "splits": None,
    }
    assert replace(OPTIONS, kind=Kind.TRADES).lasting("demo").keys() == {
        *("kind", "keyspace", "format", "exact")
    }


def test_the_end_says_what_was_written_what_is_open_and_what_is_lost():
    lost = [f"date=2024-03-0{n}/A.parquet" for n in range(1, 8)]
    outcome = ExportResult(files=1_200, rows=3_456_789, kept=7, open_days=2, fragments=lost)
    first, unfinalized, warning = summary(outcome, Path("out"), OPTIONS)
    assert first == "out: wrote 1,200 files with 3,456,789 rows, left 7 as they were."
    assert unfinalized.startswith("2 of the files written are of days that are not finalized")
    assert "no longer has all bars of 7 files" in warning
    assert warning.endswith("date=2024-03-05/A.parquet and 2 more.")
    assert len(summary(ExportResult(kept=3), Path("out"), OPTIONS)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": Kind.TRADES}, ["silver no longer has all trades of 1 file ", "SILVER_TTL_S"]),
        ({}, ["gold no longer has all bars of 1 file, ", "GOLD_TTL_S"]),
        (
            {"interval": parse_length("5tick")},
            ["silver or gold no longer has all trades of the 5tick bars of 1 file ", "nothing new"],
        ),
    ],
)
def test_what_is_lost_is_said_of_the_table_that_lost_it(change, said):
    outcome = ExportResult(files=1, rows=1, fragments=["date=2024-03-15/A.parquet"])
    first, warning = summary(outcome, Path("out"), replace(OPTIONS, **change))
    assert first == "out: wrote 1 file with 1 row, left 0 as they were."
    assert [text in warning for text in said] == [True] * len(said)
    assert ("silver" in warning) == (change != {})


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 2},
        {"trade_count": 5},
        {"window_start": START + timedelta(minutes=5)},
        {"is_complete": None},  # a longer bar, since a gap became known
        {"updated_at": START + timedelta(minutes=7)},  # a preview: its trades came in other order
    ],
)
def test_a_file_shows_another_state_after_any_change_of_its_bars(change):
    written = {"revision": 1, "is_complete": True, "updated_at": START + timedelta(minutes=6)}
    bars = [a_bar(**written), a_bar(**written)]
    assert state_of_bars(bars) == state_of_bars(bars)
    assert state_of_bars([bars[0], replace(bars[1], **change)]) != state_of_bars(bars)
    assert state_of_bars(bars[:1]) != state_of_bars(bars)
