"""The largest and smallest numbers that validation lets through, all the way to what is sent."""

from __future__ import annotations

import io
from decimal import Decimal
from fractions import Fraction

import orjson
import pytest
from rich.console import Console
from rich.text import Text

from tapeline.api.bar_pages import SCHEMA, row_of
from tapeline.api.formats import _csv, to_json
from tapeline.cli.render.chart import Size, draw_chart
from tapeline.cli.render.table import print_bars
from tapeline.live.decode import decode_trade
from tapeline.live.fold import OpenBar
from tapeline.model.conditions import ALL
from tapeline.model.read_interval import ReadInterval
from tapeline.model.reasons import PRICE_LIMIT, VOLUME_LIMIT
from tapeline.model.trade import Trade, encode_trade
from tapeline.producer.validation import TradeFrame, parse_frame
from tapeline.read.bars import bars_table
from tests.sample import a_bar

T = 1_763_649_000_123
LARGEST_PRICE, LARGEST_VOLUME = 99_999_999_999.9, 9_999_999_999_999.9


def open_bar(price, volume, trades):
    bar = OpenBar("X", T - T % 300_000, 300_000, ALL)
    for n in range(trades):
        bar.fold(Trade("X", price, volume, T, None, n, T * 1000, n, "finnhub"))
    return bar.bar()


@pytest.mark.parametrize("price", [1e-300, 1e-9, 0.01, 189.5, 9e9, LARGEST_PRICE])
@pytest.mark.parametrize("volume", [0.0, 5e-324, 1e-10, 1e-9, 100.0, LARGEST_VOLUME])
@pytest.mark.parametrize("trades", [1, 1001])
def test_a_bar_of_any_valid_trades_is_sent_and_drawn(price, volume, trades):
    """Amounts have ten places; a thousand of the largest make a volume of 1e16."""
    bar = open_bar(price, volume, trades)
    row = row_of(bar)

    places = Fraction(volume).limit_denominator(10**15) if volume < 1 else Fraction(str(volume))
    size = round(places * 10**10)
    assert Fraction(row["volume"]) == Fraction(size * trades, 10**10)
    sent = orjson.loads(to_json(row))
    assert sent["volume"] == float(Fraction(size * trades, 10**10))
    assert (sent["open"], sent["close"], sent["trade_count"]) == (price, price, trades)
    (line,) = _csv([row], SCHEMA.names).decode().splitlines()[1:]
    assert Decimal(line.split(",")[SCHEMA.names.index("volume")]) == row["volume"]
    table = bars_table([bar], exact=True)
    assert table["volume"].to_pylist() == [row["volume"]]
    for detail in (False, True):
        print_bars(table, Console(file=io.StringIO()), detail=detail)
    drawn = draw_chart("X", ReadInterval.parse("5m"), [bar, bar], Size(80, 24), Text())
    assert "X" in drawn.plain


def test_a_volume_of_1e18_and_ten_places_keeps_every_digit():
    exact = Decimal("1000000000000000000.0000000001")
    row = row_of(a_bar(volume=exact))
    assert row["volume"] == exact
    assert str(exact) in _csv([row], SCHEMA.names).decode()
    whole = _csv([row_of(a_bar(volume=Decimal(1200)))], SCHEMA.names).decode()
    assert ",1200," in whole


@pytest.mark.parametrize(
    ("price", "volume"),
    [
        (PRICE_LIMIT, 1.0),
        (0.0, 1.0),
        (-1.0, 1.0),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
        (1.0, VOLUME_LIMIT),
        (1.0, 1e18),
        (1.0, -1e-9),
        (1.0, float("nan")),
        (1.0, float("inf")),
    ],
)
def test_what_validation_refuses_does_not_reach_the_live_view(price, volume):
    value = encode_trade(Trade("X", price, volume, T, None, 1, T * 1000, 0, "finnhub"))
    assert decode_trade(value, T) is None
    frame = orjson.dumps({"type": "trade", "data": [{"s": "X", "p": price, "v": volume, "t": T}]})
    message = parse_frame(frame, T)
    assert isinstance(message, TradeFrame)
    assert message.trades == ()


@pytest.mark.parametrize("price", [1e-300, 1e-9, LARGEST_PRICE])
@pytest.mark.parametrize("volume", [0.0, 1e-300, LARGEST_VOLUME])
def test_what_it_lets_through_does(price, volume):
    trade = Trade("X", price, volume, T, None, 1, T * 1000, 0, "finnhub")
    assert decode_trade(encode_trade(trade), T) == trade
