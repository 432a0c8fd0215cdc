"""The table of `tapeline bars`: what fits a terminal is shown, nothing is cut or wrapped."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from tapeline.cli.render.table import no_bar_of, print_bars
from tapeline.read.bars import bars_table
from tests.sample import START, a_bar

BITCOIN = a_bar(
    symbol="BINANCE:BTCUSDT",
    open=84_900.01,
    high=84_950.5,
    low=84_890.25,
    close=84_901.75,
    volume=Decimal("12.34567"),
    trade_count=1234,
    is_final=True,
    is_complete=False,
    revision=2,
)
APPLE = a_bar(open=None, high=None, low=None, close=None, trade_count=2)
HEADS = ["symbol", "2026 UTC", "open", "high", "low", "close", "volume", "trades", "state"]


def printed(width, *bars, detail=False, is_terminal=True):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=is_terminal, color_system=None)
    print_bars(bars_table(bars, exact=False, detail=detail), console, detail=detail)
    return file.getvalue().splitlines()


def test_a_wide_terminal_has_every_short_column():
    lines = printed(120, BITCOIN, APPLE)
    assert " ".join(lines[0].split()) == " ".join(HEADS)
    assert lines[2].split() == [
        *("BINANCE:BTCUSDT", "11-20", "14:35", "84900.01", "84950.5", "84890.25", "84901.75"),
        *("12.34567", "1234", "rev", "2", "!"),
    ]
    assert lines[3].split() == ["AAPL", "11-20", "14:35", "10.5", "2", "prov."]
    assert lines[4] == (
        "prov.: provisional, later trades still change it; rev N: final, revised since; "
        "!: incomplete, see `tapeline gaps`"
    )


def test_bars_that_do_not_begin_with_a_minute_show_the_second():
    at = START + timedelta(seconds=7, milliseconds=250)
    lines = printed(120, replace(APPLE, window_start=at), APPLE)
    assert [line.split()[2] for line in lines[2:4]] == ["14:35:07", "14:35:00"]


def test_nothing_is_explained_where_every_bar_is_final_and_whole():
    plain = replace(BITCOIN, revision=1, is_complete=True)
    assert len(printed(120, plain)) == 3


@pytest.mark.parametrize("width", [50, 60, 80])
def test_a_narrow_terminal_has_fewer_columns_and_says_which(width):
    lines = printed(width, BITCOIN, APPLE)
    assert all(len(line) <= width for line in lines[:-2])
    assert len(lines) == 6
    assert "…" not in "".join(lines)
    assert "84901.75" in lines[2]
    assert lines[-1].startswith("Not shown for want of room: trades")


def test_eighty_columns_hold_a_stock_whole():
    stock = replace(BITCOIN, symbol="AAPL", revision=1, is_complete=True)
    lines = printed(80, stock)
    assert " ".join(lines[0].split()) == " ".join(HEADS)
    assert lines[-1].split()[-1] == "final"


def test_years_are_named_when_there_are_several():
    lines = printed(120, BITCOIN, a_bar(window_start=START + timedelta(days=365)))
    assert "start UTC" in lines[0]
    assert "2026-11-20 14:35" in lines[2]
    assert "2027-11-20 14:35" in lines[3]


def test_detail_is_every_column_on_one_line_each():
    lines = printed(80, BITCOIN, detail=True)
    assert "first_received_at" in lines[1]
    assert "2026-11-20T14:35:00Z" in lines[3]
    assert len(lines) == 5


@pytest.mark.parametrize("detail", [False, True])
def test_where_there_is_no_bar_there_is_no_table(detail):
    assert printed(200, detail=detail) == []


def test_a_pipe_has_room_for_everything():
    assert " ".join(printed(40, BITCOIN, is_terminal=False)[0].split()) == " ".join(HEADS)


def test_a_wrong_name_is_told_the_right_ones():
    assert no_bar_of(["X", "Y"], {"B", "A"}, "demo") == (
        "There is no bar of X, Y in keyspace demo; it has A, B."
    )
    assert no_bar_of(["X"], set(), "demo").endswith("it has none yet.")
    twelve = {f"S{n:02}" for n in range(12)}
    assert no_bar_of(["X"], twelve, "demo").endswith("S08, S09 and 2 more.")
