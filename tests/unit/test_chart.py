"""A whole chart, and how charts share a terminal."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console
from rich.text import Text

from tapeline.cli.render.chart import Size, change_of, draw_chart, state_of
from tapeline.cli.render.live_bars import age_of
from tapeline.cli.render.watch import Grid, grid_of
from tapeline.model.read_interval import ReadInterval
from tests.sample import START, a_bar

FIVE_MINUTES = ReadInterval.parse("5m")
SIZE = Size(60, 10)
FEED = Text("newest trade 0.8 s ago")


def bar(index, *ohlc, **changes):
    names = ("open", "high", "low", "close")
    prices = dict(zip(names, map(float, ohlc), strict=True))
    start = START + timedelta(minutes=5 * index)
    return a_bar(window_start=start, **{"is_final": True, "revision": 1, **prices, **changes})


BARS = [
    bar(0, 1, 4, 0, 2, volume=Decimal(800)),
    bar(1, 2, 5, 2, 5, volume=Decimal(400), is_complete=False),
    bar(2, 5, 9, 5, 8, volume=Decimal(0), is_final=False, revision=0),
]


def lines_of(bars, size=SIZE, interval=FIVE_MINUTES):
    chart = draw_chart("AAPL", interval, bars, size, FEED)
    return [line.rstrip() for line in chart.plain.split("\n")]


def test_a_chart_worked_by_hand():
    """Prices 0 to 9 over 6 rows: row n from the top holds half rows 2n and 2n + 1.

    The half row of a price is (9 - price) * 11 / 9, rounded: 0 is 11, 1 is 10, 2 is 9, 4 is 6,
    5 is 5, 8 is 1, 9 is 0.
    """
    assert lines_of(BARS) == [
        "AAPL 5m  8.00  provisional  +7.00 (+700.00%) since 14:35  n…",
        "    ╽ ╞ 8.00",
        "    ┋ │",
        "  ╻ ┋ ├ 5.00",
        "│ ┃   │",
        "╽ ┃   │",
        "╿     ├ 0.00",
        "█ ▄     800",
        "──!─╌╌",
        "11-20 14:35",
    ]


def test_the_newest_bars_are_shown_when_not_all_fit():
    many = [bar(n, n + 1, n + 2, n, n + 1) for n in range(100)]
    lines = lines_of(many, Size(41, 10))
    assert "since 20:10" in lines_of(many, Size(81, 10))[0]  # the 67th is the first of 33
    assert len(lines[-2]) == 2 * 13
    assert "100.00" in "".join(lines[1:3])


@pytest.mark.parametrize("size", [Size(40, 10), Size(80, 24), Size(211, 57)])
def test_a_chart_fits_its_rectangle(size):
    many = [bar(n, 84_900 + n, 84_950 + n, 84_890 + n, 84_901 + n) for n in range(300)]
    chart = draw_chart("BINANCE:BTCUSDT", FIVE_MINUTES, many, size, FEED)
    lines = chart.plain.split("\n")
    assert len(lines) == size.height
    assert max(map(len, lines)) <= size.width


@pytest.mark.parametrize("width", [80, 81])
def test_a_long_price_is_not_cut(width):
    many = [bar(n, *[123_456.25 + n] * 4) for n in range(60)]
    text = draw_chart("BINANCE:BTCUSDT", FIVE_MINUTES, many, Size(width, 24), FEED).plain
    assert "╞ 123,515.25\n" in text


def test_a_tiny_price_is_written_with_its_digits():
    coin = [bar(n, *[(16_743 + n) * 1e-13] * 4) for n in range(3)]
    text = draw_chart("KRAKEN:COIN-USD", FIVE_MINUTES, coin, Size(60, 12), FEED).plain
    assert "╞ 1.6745e-09\n" in text
    assert "5m  1.6745e-09  final  +2e-13 (+0.01%)" in text


def test_without_a_price_it_says_so():
    blank = a_bar(open=None, high=None, low=None, close=None)
    assert lines_of([blank])[-1] == "No bar with a price yet."


def test_rising_is_green_falling_red_and_without_colour_nothing_is_lost():
    rising, falling = bar(0, 1, 2, 1, 2), bar(1, 2, 2, 1, 1)
    chart = draw_chart("AAPL", FIVE_MINUTES, [rising, falling], Size(60, 10), FEED)
    coloured, plain = (
        Console(force_terminal=True, color_system="standard", no_color=is_plain, width=60)
        for is_plain in (False, True)
    )
    with coloured.capture() as with_colour:
        coloured.print(chart)
    with plain.capture() as without:
        plain.print(chart)
    assert "\x1b[32m" in with_colour.get()
    assert "\x1b[31m" in with_colour.get()
    assert "\x1b[3" not in without.get()
    assert without.get().count("┃") == with_colour.get().count("┃") > 0


def test_the_change_is_from_the_first_open_to_the_last_close():
    blank = a_bar(open=None, high=None, low=None, close=None)
    assert change_of([blank, bar(0, 200, 220, 190, 210), bar(1, 210, 215, 205, 206), blank]) == (
        6.0,
        pytest.approx(3.0),
    )
    assert change_of([blank]) is None
    # From below zero to above it is a rise.
    assert change_of([bar(0, -37.5, 0.5, -38, 0)]) == (37.5, pytest.approx(100.0))


def test_a_bar_says_how_sure_it_is():
    assert state_of(bar(0, 1, 1, 1, 1, is_final=False)) == "provisional"
    assert state_of(bar(0, 1, 1, 1, 1)) == "final"
    assert state_of(bar(0, 1, 1, 1, 1, revision=3)) == "revision 3"
    assert state_of(bar(0, 1, 1, 1, 1, is_complete=False)) == "final, incomplete"


@pytest.mark.parametrize(
    ("charts", "width", "height", "grid"),
    [
        (1, 80, 23, Grid(1, 1)),
        (2, 80, 23, Grid(1, 2)),  # 80 by 11 each rather than 40 by 23
        (4, 80, 23, Grid(2, 2)),
        (4, 200, 50, Grid(2, 2)),
        (3, 200, 12, Grid(3, 1)),
        (9, 80, 23, Grid(2, 2)),  # as many as fit, the rest on further pages
        (1, 20, 5, Grid(1, 1)),
    ],
)
def test_charts_share_a_terminal(charts, width, height, grid):
    assert grid_of(charts, width, height) == grid


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (-1, "0.0 s"),
        (59, "59 s"),
        (150, "2 min"),
        (7_200, "2 h"),
        (345_600, "4 d"),
    ],
)
def test_an_age_has_one_unit(seconds, text):
    assert age_of(timedelta(seconds=seconds)) == text
