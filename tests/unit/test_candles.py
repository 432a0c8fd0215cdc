"""Candles and volume of characters, drawn by hand beside each expectation."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapeline.cli.render.candles import Scale, candle, column, scale_of
from tests.sample import a_bar

TWO_ROWS = Scale(0.0, 3.0, 2)  # half rows from the top: 3, 2, 1, 0


def drawn(scale, **prices):
    return "".join(candle(a_bar(is_final=True, **prices), scale))


@pytest.mark.parametrize(
    ("ohlc", "cells"),
    [
        ((1, 3, 0, 2), "╽╿"),  # wick, body | body, wick
        ((2, 3, 0, 1), "╽╿"),  # falling: the same shape, another colour
        ((0, 3, 0, 3), "┃┃"),  # all body
        ((3, 3, 0, 3), "╿│"),  # opens and closes at the high
        ((1, 1, 1, 1), " ╹"),  # one price
        ((0, 1, 0, 0), " ╽"),
        ((2, 3, 2, 2), "╽ "),
        ((3, 3, 3, 3), "╹ "),
        ((0, 2, 0, 1), "╷┃"),
        ((2, 2, 1, 2), "╻╵"),
    ],
)
def test_a_candle_has_two_steps_in_each_row(ohlc, cells):
    names = ("open", "high", "low", "close")
    assert drawn(TWO_ROWS, **dict(zip(names, map(float, ohlc), strict=True))) == cells


def test_a_provisional_candle_is_dashed():
    scale = Scale(0.0, 7.0, 4)
    prices = {"open": 2.0, "high": 7.0, "low": 0.0, "close": 3.0}
    assert "".join(candle(a_bar(is_final=True, **prices), scale)) == "││┃│"
    assert "".join(candle(a_bar(is_final=False, **prices), scale)) == "┊┊┋┊"


def test_a_bar_without_prices_is_blank():
    bar = a_bar(open=None, high=None, low=None, close=None)
    assert candle(bar, TWO_ROWS) == [" ", " "]
    assert scale_of([bar], 2) is None


def test_a_scale_holds_every_high_and_low_and_one_price_is_in_the_middle():
    bars = [a_bar(high=5.0, low=2.0), a_bar(high=4.0, low=1.0), a_bar(high=None, low=None)]
    assert scale_of(bars, 7) == Scale(1.0, 5.0, 7)
    assert Scale(2.0, 2.0, 5).row(2.0) == 2


@pytest.mark.parametrize(
    ("low", "high", "rows", "ticks", "lowest"),
    [
        (0.0, 10.0, 10, [0, 2, 4, 6, 8, 10], "0.00"),
        (236.7, 238.1, 10, [237.0, 237.5, 238.0], "237.00"),
        (84_890.25, 84_950.5, 12, [84_900, 84_920, 84_940], "84,900.00"),
        (12.3e-6, 12.6e-6, 8, [12.3e-6, 12.4e-6, 12.5e-6, 12.6e-6], "0.0000123"),
        (1.6742e-9, 1.6745e-9, 8, [1.6742e-9, 1.6743e-9, 1.6744e-9, 1.6745e-9], "1.6742e-09"),
        (-37.63, 0.01, 8, [-30.0, -20.0, -10.0, 0.0], "-30.00"),
    ],
)
def test_ticks_are_round_prices_at_most_one_in_two_rows(low, high, rows, ticks, lowest):
    scale = Scale(low, high, rows)
    assert scale.ticks() == pytest.approx(ticks)
    assert scale.tick_text(ticks[0]) == lowest
    assert len({scale.row(t) for t in ticks}) == len(ticks)


def test_one_price_has_a_tick_step_too():
    assert Scale(50.0, 50.0, 10).step == 50.0
    assert Scale(0.0, 0.0, 10).step == 1.0


@pytest.mark.parametrize(
    ("amount", "cells"),
    [
        (0, "  "),
        (1, " ▁"),  # 1 of 1000 is seen all the same
        (250, " ▄"),
        (500, " █"),
        (625, "▂█"),
        (1000, "██"),
    ],
)
def test_volume_fills_its_rows_in_eighths(amount, cells):
    assert "".join(column(float(Decimal(amount)), 1000.0, 2)) == cells


def test_no_volume_at_all_is_blank():
    assert column(0.0, 0.0, 3) == [" ", " ", " "]
