"""Bars as an Arrow table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from tapeline.read.bars import bars_schema, bars_table, read_bars
from tests.sample import START, a_bar

NAMES = [
    "symbol",
    "window_start",
    "window_end",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
    "is_final",
    "revision",
    "is_complete",
    "session",
]
DETAILS = [
    *("notional", "unpriced_count", "unpriced_volume", "first_trade_time", "last_trade_time"),
    *("first_received_at", "asset_class", "policy", "reason", "updated_at"),
]
BAR = a_bar(
    symbol="BINANCE:BTCUSDT",
    volume=Decimal("0.3000000001"),
    notional=Decimal("0.6"),
    vwap=1.9999999993333335,
    is_final=True,
    is_complete=True,
    revision=2,
    session="continuous",
)
ROW = {
    "symbol": "BINANCE:BTCUSDT",
    "window_start": START,
    "window_end": START + timedelta(minutes=5),
    "open": 1.0,
    "high": 3.0,
    "low": 0.5,
    "close": 2.0,
    "volume": 0.3000000001,
    "vwap": 1.9999999993333335,
    "trade_count": 4,
    "is_final": True,
    "revision": 2,
    "is_complete": True,
    "session": "continuous",
}


def test_a_bar_is_a_row_with_a_float_volume():
    assert bars_table([BAR], exact=False).to_pylist() == [ROW]


def test_all_columns_follow_on_request():
    table = bars_table([BAR], exact=False, detail=True)
    (row,) = table.to_pylist()
    assert table.schema.names == [*NAMES, *DETAILS]
    assert (row["notional"], row["unpriced_count"], row["unpriced_volume"]) == (0.6, 1, 0.5)
    assert (row["first_trade_time"], row["policy"], row["reason"]) == (START, "sip+oddlot", None)


def test_an_exact_volume_is_a_decimal_with_ten_places():
    table = bars_table([BAR, replace(BAR, volume=Decimal(7))], exact=True)
    assert [str(v) for v in table["volume"].to_pylist()] == ["0.3000000001", "7.0000000000"]
    assert table.schema.field("volume").type == pa.decimal128(38, 10)


@pytest.mark.parametrize("text", ["1234567890123456789.5", "9999999999999999999999999999.5"])
def test_an_exact_volume_may_have_all_the_digits_of_its_type(text):
    table = bars_table([replace(BAR, volume=Decimal(text))], exact=True)
    assert table["volume"].to_pylist() == [Decimal(text)]


def test_bars_keep_their_order():
    bars = [replace(BAR, symbol=s) for s in ("B", "A", "C")]
    assert bars_table(bars, exact=False)["symbol"].to_pylist() == ["B", "A", "C"]


def test_a_bar_without_prices_keeps_its_volume_and_count():
    bar = replace(BAR, open=None, high=None, low=None, close=None, vwap=None)
    (row,) = bars_table([bar], exact=False).to_pylist()
    empty = dict.fromkeys(["open", "high", "low", "close", "vwap"])
    assert row == {**ROW, **empty}


@pytest.mark.parametrize("exact", [False, True])
def test_no_bars_keep_the_columns(exact):
    table = bars_table([], exact=exact)
    assert table.num_rows == 0
    assert table.schema.names == NAMES
    assert table.schema == bars_schema(exact=exact)


@pytest.mark.parametrize("exact", [False, True])
def test_times_are_in_utc_and_types_do_not_depend_on_the_rows(exact):
    assert bars_table([BAR], exact=exact).schema == bars_schema(exact=exact)
    assert bars_schema(exact=exact).field("window_start").type == pa.timestamp("ms", tz="UTC")


@pytest.mark.parametrize(
    ("start", "end"), [(START.replace(tzinfo=None), START), (START, START.replace(tzinfo=None))]
)
def test_a_time_without_a_zone_is_refused_before_anything_is_asked(start, end):
    with pytest.raises(ValueError, match="time zone"):
        read_bars("AAPL", "5m", start, end)
