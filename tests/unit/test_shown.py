"""What listeners are shown never goes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tapeline.api.shown import Shown
from tests.sample import START, a_bar

BAR = a_bar(trade_count=4)
FINAL = replace(BAR, is_final=True, revision=1)


def test_a_provisional_bar_is_followed_by_one_of_more_trades_only():
    shown = Shown()
    assert shown.take("5m", BAR)
    assert not shown.take("5m", BAR)
    assert not shown.take("5m", replace(BAR, trade_count=3, close=1.5))
    assert not shown.take("5m", replace(BAR, close=1.5))
    assert shown.take("5m", replace(BAR, close=1.5), is_live=True)
    assert shown.take("5m", replace(BAR, trade_count=5))


def test_a_final_bar_is_followed_by_its_revisions_only():
    shown = Shown()
    assert shown.take("5m", FINAL)
    assert not shown.take("5m", replace(BAR, trade_count=9), is_live=True)
    assert shown.take("5m", replace(FINAL, revision=2, trade_count=5))
    assert not shown.take("5m", FINAL)
    assert shown.take("15m", BAR)  # of another length


def series(*closes):
    """Return bars one after another."""
    five = timedelta(minutes=5)
    return [a_bar(window_start=START + n * five, close=close) for n, close in enumerate(closes)]


def test_what_is_long_over_or_unwanted_is_forgotten_but_the_last_close_before():
    shown = Shown()
    bars = series(1.0, 2.0, None, 3.0)
    for bar in (*bars, replace(BAR, symbol="MSFT")):
        shown.take("5m", bar)
    shown.keep(lambda topic: bars[3].window_start if topic == ("5m", "AAPL") else None)
    assert list(shown.of("5m", "AAPL").values()) == bars[1:]
    assert dict(shown.of("5m", "MSFT")) == {}


def test_a_bar_hangs_on_those_before_it_from_the_last_close_on():
    shown = Shown()
    bars = series(None, 1.0, None, 2.0, 3.0)
    for bar in bars:
        shown.take("5m", bar)
    assert shown.up_to("5m", bars[4]) == bars[3:]
    assert shown.up_to("5m", bars[3]) == bars[1:4]
    assert shown.up_to("5m", bars[1]) == [bars[1]]  # nothing before it has a close
    assert shown.following("5m", bars[1]) == bars[2]
    assert shown.following("5m", bars[4]) is None
