"""Which bars of an export stay when gold has begun to lose them, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tapeline.export.content import Content
from tapeline.export.files import ExportFormat, read_file, write_file
from tapeline.export.kept_bars import with_kept
from tapeline.model.threshold import parse_length
from tapeline.read.bars import bars_schema, bars_table
from tests.sample import START, a_bar

SCHEMA = bars_schema(exact=True)
CONTENT = Content(SCHEMA, [], "state", {}, is_open=False, is_over=True)
HOURS, TICKS = parse_length("4h"), parse_length("5tick")
LATER = START + timedelta(hours=4)


def bars(*several):
    final = {"is_final": True, "revision": 1, "trade_count": 10}
    return bars_table([a_bar(**{**final, **fields}) for fields in several], exact=True)


@pytest.mark.parametrize(
    ("now", "expires", "stays"),
    [
        ({"trade_count": 6}, False, True),
        ({"trade_count": 6, "revision": 2}, False, False),  # made smaller on purpose
        ({"trade_count": 6, "revision": 2}, True, True),  # or what is left of it was revised
        ({"trade_count": 11, "revision": 2}, True, False),
        ({"trade_count": 10, "revision": 2}, True, False),
        ({"open": 0.9}, False, False),
        ({"open": 0.9}, True, True),  # the bar whose close it opened at has expired
        ({"open": 0.9, "revision": 2}, True, False),
        ({"open": 0.9, "is_final": False, "revision": 0}, True, False),
        ({"is_complete": False}, True, False),
    ],
)
def test_a_bar_of_fewer_trades_does_not_take_a_whole_ones_place(now, expires, stays):
    before = bars({}, {"window_start": LATER})
    left = bars(now, {"window_start": LATER, "revision": 3, "high": 9.0})
    found, is_lost = with_kept(before, left, replace(CONTENT, expires=expires), HOURS)

    first = before if stays else left
    assert found.to_pylist() == [first.to_pylist()[0], left.to_pylist()[1]]
    assert is_lost is stays


def test_a_bar_that_is_gone_stays_and_is_lost_unless_it_is_only_provisional_now():
    before = bars({}, {"window_start": LATER})
    now = bars({"window_start": LATER})
    pending = replace(CONTENT, pending=frozenset({START}))

    assert with_kept(before, now, CONTENT, HOURS) == (before, True)
    assert with_kept(before, now, pending, HOURS) == (before, False)
    assert with_kept(before, SCHEMA.empty_table(), CONTENT, HOURS) == (before, True)
    assert with_kept(SCHEMA.empty_table(), now, CONTENT, HOURS) == (now, False)


def test_a_provisional_bar_is_replaced_by_whatever_comes():
    """A preview may count a copy twice, which the final bar does not."""
    before = bars({"is_final": False, "revision": 0, "trade_count": 12})
    now = bars({"is_final": False, "revision": 0, "trade_count": 11})
    assert with_kept(before, now, CONTENT, HOURS) == (now, False)


@pytest.mark.parametrize(
    ("now", "changes", "stays", "is_lost"),
    [
        ([{"trade_count": 5}, {"trade_count": 4}], {}, True, True),
        ([{"trade_count": 5}, {"trade_count": 4, "revision": 2}], {}, False, False),
        ([{"trade_count": 5}, {"trade_count": 4, "revision": 2}], {"expires": True}, True, True),
        ([{"trade_count": 5}], {"pending": frozenset({LATER})}, True, False),
        ([{"trade_count": 10}], {}, False, False),  # fewer bars of as many trades
        ([], {}, True, True),
    ],
)
def test_tick_bars_of_a_day_stay_or_go_together(now, changes, stays, is_lost):
    before = bars({"trade_count": 5}, {"trade_count": 5, "window_start": LATER})
    left = bars(*now) if now else SCHEMA.empty_table()
    content = replace(CONTENT, **changes)
    assert with_kept(before, left, content, TICKS) == (before if stays else left, is_lost)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("file_format", [f for f in ExportFormat if f is not ExportFormat.DELTA])
def test_every_file_is_read_back_as_it_was_written(tmp_path, file_format, exact):
    several = [
        a_bar(volume=Decimal("0.1234567891"), open=0.1 + 0.2, high=1e-7, updated_at=START),
        a_bar(symbol='A,"B', open=None, high=None, low=None, close=None, vwap=None, policy=None),
        a_bar(symbol="NA", policy="null", session="NaN"),  # names, and no nulls
        a_bar(is_final=True, revision=3, is_complete=False, reason="late_trade", low=-1e22),
        a_bar(last_trade_time=START + timedelta(milliseconds=7), volume=Decimal(10**27)),
    ]
    table = bars_table(several, exact=exact, detail=True)
    path = tmp_path / f"date=2026-11-20/x.{file_format.value}"
    write_file(path, table.schema, table.to_batches(), file_format)
    assert read_file(path, table.schema, file_format).to_pylist() == table.to_pylist()
