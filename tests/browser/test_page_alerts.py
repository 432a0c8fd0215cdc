"""Alerts on the page: kept in the browser, told once as a bar begins to fulfil them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe

from tapeline.model.bar import Bar
from tests.market_day import Market
from tests.pipeline import Pipeline
from tests.sample import write_bars

from .conftest import PHONE, Open, Tab

KEPT = "localStorage.getItem('alerts')"
# Each is there for a while only, which a slow machine may need for what else is looked at.
NOTE_TOASTS = """() => {
  globalThis.told = [];
  const note = (changes) => {
    for (const { addedNodes } of changes) told.push(...[...addedNodes].map((n) => n.textContent));
  };
  new MutationObserver(note).observe(document.getElementById("toasts"), { childList: true });
}"""


def add(tab: Tab, text: str) -> None:
    tab.page.keyboard.press("a")
    tab.page.fill("#alert-input", text)
    tab.page.click("#alert-form button")


def newest(market: Market) -> Bar:
    return market.bars["AAPL"][-1]


def at(bar: Bar, close: float) -> Bar:
    """Return the next state of a bar: one more trade, at this price."""
    high = max(float(bar.high or close), close)
    return replace(bar, close=close, high=high, trade_count=bar.trade_count + 1)


def test_a_price_is_told_when_it_is_reached_and_the_rule_outlives_the_page(
    pipeline: Pipeline, market: Market, open_page: Open
) -> None:
    bar = newest(market)
    assert bar.close is not None
    limit = round(bar.close + 5, 2)
    tab = open_page("?symbol=AAPL")
    tab.wait("tapeline.bars().length > 10")
    add(tab, f"AAPL  close > {limit}")
    tab.page.click("#alerts form[method=dialog] button")
    tab.page.reload()
    tab.wait("tapeline.bars().length > 10")
    assert tab.page.evaluate(KEPT) == f'["AAPL close > {limit}"]'

    tab.page.evaluate(NOTE_TOASTS)
    states = [at(bar, limit)]
    for close in (limit + 1, limit + 2):
        states.append(at(states[-1], close))
    for state in states:
        write_bars(pipeline.client, state)
        tab.wait(f"tapeline.bars().some((bar) => bar.close === {state.close})")
    tab.wait("told.length > 0")
    (told,) = tab.page.evaluate("told")
    assert f"AAPL close > {limit}: it is" in told

    tab.page.keyboard.press("a")
    tab.page.click(f"button[aria-label='Remove AAPL close > {limit}']")
    assert tab.page.evaluate(KEPT) == "[]"
    assert tab.errors == []


@pytest.mark.parametrize("look", ["dark", "light", "phone"])
def test_what_is_no_rule_is_said_and_the_form_is_accessible(
    market: Market, open_page: Open, look: str
) -> None:
    options = PHONE if look == "phone" else {}
    tab = open_page("?symbol=AAPL", "light" if look == "light" else "dark", **options)
    tab.wait(f"tapeline.bars().length > 10 && {len(market.bars)}")
    for text in ("AAPL gap", "AAPL price > 280"):
        add(tab, text)
    assert "Write one such as AAPL close > 280" in tab.page.inner_text("#alert-trouble")
    assert tab.page.evaluate(KEPT) == '["AAPL gap"]'
    found = Axe().run(tab.page).response["violations"]
    assert [violation["id"] for violation in found] == []
    assert tab.errors == []
