"""The demo's table, drawn at the widths that terminals have."""

from __future__ import annotations

import io
import threading
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from rich.console import Console

from tapeline.bar import Bar
from tapeline.demo import _table, _Until

START = datetime(2026, 11, 23, 5, 10, tzinfo=timezone.utc)
END = START + timedelta(minutes=5)
PRICES = (84_899.64, 85_153.97, 84_811.01, 85_153.97)
BARS = [
    Bar(
        "BINANCE:BTCUSDT",
        *(START, END),
        *PRICES,
        Decimal("18.34521"),
        Decimal(1),
        84_990.1,
        12_139,
        is_final=True,
        revision=2,
    ),
    Bar("KO", START, END, None, None, None, None, Decimal(5), Decimal(1), None, 1),
]


def drawn(width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(_table(BARS, width))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_column_is_cut_at_any_usual_width(width):
    text = drawn(width)

    assert "…" not in text
    assert "BINANCE:BTCUSDT" in text
    assert "85,153.97" in text
    assert "+0.300%" in text  # 85,153.97 / 84,899.64
    assert "12,139" in text
    assert "revision 2" in text
    assert "provisional" in text


def test_a_wide_terminal_shows_every_value():
    text = drawn(120)

    for value in ("84,899.64", "84,811.01", "84,990.1", "18.3452"):
        assert value in text


def test_the_view_ends_so_long_after_the_first_bar():
    until = _Until(threading.Event(), 1.2)
    assert not until.is_over()
    until.saw_bars()
    seen_s = time.monotonic()
    while not until.is_over():
        pass
    assert 1.2 <= time.monotonic() - seen_s < 10


def test_the_view_ends_at_a_signal():
    stop = threading.Event()
    stop.set()
    assert _Until(stop, None).is_over()
