"""A vendor's bars: the file, and the comparison."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tapeline.audit.context import Scope
from tapeline.audit.findings import Compared, Findings, PairCount
from tapeline.audit.vendor_check import (
    NoPrices,
    VendorBar,
    check_vendor,
    compare_vendor,
    read_vendor_bars,
)
from tapeline.model.bar import Interval
from tapeline.model.errors import UsageError
from tapeline.model.rules import PLAIN
from tapeline.storage.bar_rows import StoredBar
from tests.audit_rows import a_baseline
from tests.hand import DATA, hand_bars
from tests.sample import START, a_bar

HEADER = "symbol,window_start_ms,open,high,low,close,volume,exact"
OURS = a_bar(is_final=True)
THEIRS = VendorBar("AAPL", START, 1.0, 3.0, 0.5, 2.0, Decimal("10.5"))
KEY = ("AAPL", START)
HAND = DATA / "hand.bars.csv"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "vendor.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_file_is_read_gzip_or_not_without_what_is_not_exact(tmp_path: Path) -> None:
    lines = [
        HEADER,
        "BAC,1381132800000,13.94,13.95,13.93,13.945,1000.5,1",
        "BAC,1381133100000,13.94,13.95,13.94,13.95,1000,0",
    ]
    plain = write(tmp_path, *lines)
    packed = tmp_path / "vendor.csv.gz"
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    start = datetime(2013, 10, 7, 8, tzinfo=timezone.utc)
    expected = [VendorBar("BAC", start, 13.94, 13.95, 13.93, 13.945, Decimal("1000.5"))]

    assert list(read_vendor_bars(plain)) == expected
    assert list(read_vendor_bars(packed)) == expected


def test_a_row_without_prices_is_told_apart_from_a_bar(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEADER,
        "SPY,1381132800000,,,,,100,1",
        "SPY ,1381133100000,13.94,13.95,13.94,13.95,1000,1",
        "SPY,1381133400000, , , , ,,1",
        "SPY,1381133700000,,,,,100,0",
    )
    start = datetime(2013, 10, 7, 8, tzinfo=timezone.utc)
    assert list(read_vendor_bars(path)) == [
        NoPrices("SPY", start),
        VendorBar("SPY", start.replace(minute=5), 13.94, 13.95, 13.94, 13.95, Decimal(1000)),
        NoPrices("SPY", start.replace(minute=10)),
    ]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("symbol,window_start_ms,open,open,high,low,close,volume", "open"),
        ("symbol,window_start_ms,open,high,low,close,volume,symbol", "symbol"),
        ("window_start,window_start,symbol,open,high,low,close,volume", "window_start"),
    ],
)
def test_a_column_that_is_there_twice_is_refused_and_named(
    tmp_path: Path, header: str, name: str
) -> None:
    with pytest.raises(UsageError, match=f"holds no bars: it has column {name} twice"):
        list(read_vendor_bars(write(tmp_path, header)))


@pytest.mark.parametrize(
    "time", ["2013-10-07T08:00:00Z", "2013-10-07T08:00", "2013-10-07T04:00:00-04:00"]
)
def test_a_window_may_be_named_by_iso_time(tmp_path: Path, time: str) -> None:
    path = write(
        tmp_path, "window_start,symbol,open,high,low,close,volume", f"{time},BAC,1,2,1,2,5"
    )

    (bar,) = read_vendor_bars(path)

    assert bar.window_start == datetime(2013, 10, 7, 8, tzinfo=timezone.utc)


def test_a_column_names_the_length_of_each_bar_and_without_it_all_are_of_five_minutes(
    tmp_path: Path,
) -> None:
    rows = list(read_vendor_bars(HAND))
    fives = [row.window_start for row in rows if row.interval is Interval.FIVE_MINUTES]
    hours = [row.window_start for row in rows if row.interval is Interval.ONE_HOUR]
    assert [f"{start:%H:%M}" for start in fives] == ["14:30", "14:35", "14:40", "15:00", "16:30"]
    assert [f"{start:%H:%M}" for start in hours] == ["14:00", "15:00", "16:00"]

    path = write(tmp_path, HEADER, "BAC,1381132800000,1,1,1,1,1,1")
    assert [row.interval for row in read_vendor_bars(path)] == [Interval.FIVE_MINUTES]


HEADER_OF_LENGTHS = "symbol,interval,window_start,open,high,low,close,volume"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [HEADER_OF_LENGTHS, "BAC,15m,2013-10-07T08:00Z,1,1,1,1,1"],
            "line 2: bars of 15m are not compared, only those of 5m and 1h: leave it out",
        ),
        (
            [HEADER_OF_LENGTHS, "BAC,1h,2013-10-07T08:05Z,1,1,1,1,1"],
            "line 2: 2013-10-07T08:05:00Z is no start of a 1h window",
        ),
        ([], "holds no bars"),
        (["symbol,open,high,low,close,volume"], "holds no bars"),
        ([HEADER, "BAC,1381132800000,13.94,,13.94,13.95,1000,1"], "line 2: this is no bar"),
        ([HEADER, "BAC,1381132800000,13.94"], "line 2: this is no bar"),
        ([HEADER, "BAC,today,13.94,13.95,13.94,13.95,1000,1"], "line 2: this is no bar"),
        ([HEADER, "BAC,1381132800000,1,1,1,1,many,1"], "line 2: this is no bar"),
        ([HEADER, f"BAC,{10**30},1,1,1,1,1,1"], "line 2: this is no bar"),
        ([HEADER, "BAC,1381132860000,1,1,1,1,1,1"], "line 2: 2013-10-07T08:01:00Z is no start"),
    ],
)
def test_a_file_of_something_else_is_refused(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        list(read_vendor_bars(write(tmp_path, *lines)))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"symbol")[:12])
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")

    for path in (tmp_path / "none.csv", tmp_path, broken, binary):
        with pytest.raises(UsageError, match="cannot be read"):
            list(read_vendor_bars(path))


def test_equal_bars_are_no_difference() -> None:
    assert compare_vendor([THEIRS], {KEY: OURS}, set()) == Compared(checked=1)


class HandBars:
    """Stands in for Cassandra, and has the bars that were worked by hand."""

    def stored_bars(self, interval, keys):
        return {
            (symbol, start): StoredBar(
                a_bar(symbol=symbol, window_start=start, is_final=True, **values), 0
            )
            for (symbol, start), values in hand_bars(interval).items()
            if (symbol, start) in keys
        }

    def reading_rules(self, _policy):
        return PLAIN


def test_bars_of_an_hour_are_compared_with_ours_of_an_hour() -> None:
    due_hour = ("TEST", datetime(2024, 3, 15, 16, tzinfo=timezone.utc))
    context: Any = SimpleNamespace(
        client=HandBars(),
        scope=Scope(),
        baseline=a_baseline(due_hours=frozenset({due_hour})),
        findings=Findings(),
    )

    check_vendor(context, HAND)

    assert {pair.value: count for pair, count in context.findings.in_order()} == {
        "vendor → 5m bars": PairCount(checked=4, not_auditable=1),
        "vendor → 1h bars": PairCount(checked=2, not_yet=1),
    }


def test_each_price_and_the_volume_must_be_equal() -> None:
    ours = replace(OURS, open=1.1, high=3.1, low=0.6, close=None, volume=Decimal(11))

    found = compare_vendor([THEIRS], {KEY: ours}, set()).differences

    assert [(d.what, d.expected, d.found) for d in found] == [
        ("open", "1.0", "1.1"),
        ("high", "3.0", "3.1"),
        ("low", "0.5", "0.6"),
        ("close", "2.0", "none"),
        ("volume", "10.5", "11"),
    ]
    assert {(d.symbol, d.window_start) for d in found} == {KEY}


def test_an_hour_that_differs_is_told_apart_from_a_bar_of_five_minutes() -> None:
    hour = replace(THEIRS, interval=Interval.ONE_HOUR, high=3.5)

    (found,) = compare_vendor([hour], {KEY: OURS}, set()).differences

    assert (found.interval, found.pair.value) == (Interval.ONE_HOUR, "vendor → 1h bars")
    assert (found.what, found.expected, found.found) == ("high", "3.5", "3.0")


def test_a_bar_that_we_lack_is_a_difference_and_one_that_they_lack_is_none() -> None:
    (found,) = compare_vendor([THEIRS], {}, set()).differences

    assert (found.what, found.expected, found.found) == ("bar", "in gold", "none")
    assert compare_vendor([], {KEY: OURS}, set()) == Compared()


def test_a_bar_that_may_still_change_is_not_compared() -> None:
    wrong = replace(OURS, high=99.0)

    assert compare_vendor([THEIRS], {KEY: wrong}, {KEY}) == Compared(not_yet=1)
    provisional = replace(wrong, is_final=False)
    assert compare_vendor([THEIRS], {KEY: provisional}, set()) == Compared(not_yet=1)


CANDLES = (
    '{"c":[13.945,14],"h":[13.95,14.1],"l":[13.93,13.9],"o":[13.94,13.945],"s":"ok",'
    '"t":[1381132800,1381133100],"v":[1000.5,200]}'
)


def candles(folder: Path, text: str) -> Path:
    path = folder / "candles.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_candles_of_finnhub_are_bars_of_the_symbol_that_is_audited(tmp_path: Path) -> None:
    start = datetime(2013, 10, 7, 8, tzinfo=timezone.utc)

    assert list(read_vendor_bars(candles(tmp_path, CANDLES), {"BAC"})) == [
        VendorBar("BAC", start, 13.94, 13.95, 13.93, 13.945, Decimal("1000.5")),
        VendorBar("BAC", start.replace(minute=5), 13.945, 14.1, 13.9, 14.0, Decimal(200)),
    ]
    assert list(read_vendor_bars(candles(tmp_path, '{"s":"no_data"}'), {"BAC"})) == []


@pytest.mark.parametrize(
    ("text", "symbols", "sentence"),
    [
        (CANDLES, (), "does not say whose candles it has: give that symbol with --symbols"),
        (CANDLES, ("A", "B"), "does not say whose candles it has"),
        ("{", ("A",), "holds no candles: it must be an object with s, t, o, h, l, c, v"),
        ("{}", ("A",), "holds no candles"),
        ('{"s":"ok","t":[1],"o":[],"h":[],"l":[],"c":[],"v":[]}', ("A",), "holds no candles"),
        ('{"s":"ok","t":1,"o":1,"h":1,"l":1,"c":1,"v":1}', ("A",), "holds no candles"),
        (CANDLES.replace("1381133100", "1381133101"), ("A",), "is no start of a 5m window"),
        (CANDLES.replace("14.1", "null"), ("A",), "candle 2: this is no bar"),
        (CANDLES.replace("14.1", '"x"'), ("A",), "candle 2: this is no bar"),
    ],
)
def test_what_is_no_candle_is_refused(
    tmp_path: Path, text: str, symbols: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        list(read_vendor_bars(candles(tmp_path, text), symbols))
