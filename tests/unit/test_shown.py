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


def test_what_is_long_over_or_unwanted_is_forgotten():
    shown = Shown()
    later = a_bar(window_start=START + timedelta(minutes=5))
    shown.take("5m", BAR)
    shown.take("5m", later)
    shown.take("5m", replace(BAR, symbol="MSFT"))
    shown.keep(lambda topic: later.window_start if topic == ("5m", "AAPL") else None)
    assert dict(shown.of("5m", "AAPL")) == {later.window_start: later}
    assert dict(shown.of("5m", "MSFT")) == {}
