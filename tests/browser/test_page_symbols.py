"""The search box: what is not there can be asked of the producers that run."""

from __future__ import annotations

from contextlib import closing

import pytest
from axe_playwright_python.sync_playwright import Axe

from tapeline.kafka.symbol_changes import SymbolChanges
from tests.market_day import Market
from tests.pipeline import Pipeline
from tests.statuses import send_status

from .conftest import Open


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_symbol_that_is_not_there_can_be_added_and_producers_hear_of_it(
    pipeline: Pipeline, market: Market, open_page: Open, scheme: str
) -> None:
    send_status(pipeline, "live", is_live=True, source="coinbase", symbols=("COINBASE:BTC-USD",))
    tab = open_page("?symbol=AAPL", scheme)
    tab.wait(f"tapeline.bars().length > 10 && {len(market.bars)}")
    offer, added = tab.page.locator("#offer"), tab.page.locator("#added")

    tab.page.keyboard.press("/")
    tab.page.keyboard.type("aapl")
    assert not offer.is_visible()  # it is there
    tab.page.fill("#search", "coinbase:sol-usd")
    assert offer.inner_text() == "Add COINBASE:SOL-USD"
    assert [v["id"] for v in Axe().run(tab.page).response["violations"]] == []
    offer.click()
    # On a slow machine what producers last reported is too old to say that they run.
    tab.wait("document.getElementById('added').textContent.endsWith('.')")
    assert added.inner_text() in {
        "COINBASE:SOL-USD is asked of coinbase. It appears here with its first trade.",
        "No producer of coinbase runs: the next one asks for COINBASE:SOL-USD.",
    }

    tab.page.fill("#search", "PLTR")
    tab.page.keyboard.press("Enter")
    tab.wait("document.getElementById('added').textContent.includes('PLTR')")
    tab.wait("document.getElementById('added').textContent.endsWith('.')")
    assert added.inner_text() in {
        "PLTR is asked of finnhub. It appears here with its first trade.",
        "No producer of finnhub runs: the next one asks for PLTR.",
    }
    assert tab.page.input_value("#search") == ""
    assert not offer.is_visible()
    tab.page.fill("#search", "a;b")
    offer.click()
    tab.wait("document.getElementById('added').textContent.includes('is not a valid symbol')")
    assert [error for error in tab.errors if "422" not in error] == []

    kafka = pipeline.settings.kafka
    for source, expected in (("coinbase", "COINBASE:SOL-USD"), ("finnhub", "PLTR")):
        changes = SymbolChanges(pipeline.endpoints.bootstrap_servers, kafka, source)
        with closing(changes):
            changes.read_all()
            assert changes.applied_to(["X"]) == ("X", expected)
