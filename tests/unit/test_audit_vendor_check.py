"""A vendor's bars: the file, and the comparison."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from tapeline.audit.findings import Compared
from tapeline.audit.vendor_check import NoPrices, VendorBar, compare_vendor, read_vendor_bars
from tapeline.model.errors import UsageError
from tests.sample import START, a_bar

HEADER = "symbol,window_start_ms,open,high,low,close,volume,exact"
OURS = a_bar(is_final=True)
THEIRS = VendorBar("AAPL", START, 1.0, 3.0, 0.5, 2.0, Decimal("10.5"))
KEY = ("AAPL", START)


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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
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
        (CANDLES.replace("1381133100", "1381133101"), ("A",), "is no start of a five-minute"),
        (CANDLES.replace("14.1", "null"), ("A",), "candle 2: this is no bar"),
        (CANDLES.replace("14.1", '"x"'), ("A",), "candle 2: this is no bar"),
    ],
)
def test_what_is_no_candle_is_refused(
    tmp_path: Path, text: str, symbols: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        list(read_vendor_bars(candles(tmp_path, text), symbols))
