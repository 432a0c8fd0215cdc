"""What a user sees in the browser is what Cassandra holds, now and after every change."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from rich.console import Console

from tapeline.local import cassandra
from tapeline.local.home import Home
from tapeline.local.stack import LocalStack
from tapeline.local.state import read_state
from tapeline.model.bar import Bar, Interval
from tests.commands import wait_for
from tests.hand import TAPE, hand_bars
from tests.market_day import Market
from tests.pipeline import Pipeline
from tests.served import ServedApi

from .conftest import DESKTOP, PHONE, Open, Tab

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WRITES_IMAGES = os.environ.get("TAPELINE_SCREENSHOTS") == "1"
"""Read before the fixtures, which take settings out of the environment."""
PRICES = ("open", "high", "low", "close")
LOOKS = {
    "dark": ("dark", DESKTOP),
    "light": ("light", DESKTOP),
    "phone": ("dark", PHONE),
    "phone-light": ("light", PHONE),
}


def iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def apart(work: Callable[[], Any]) -> None:
    """Run what has an event loop of its own outside of the browser's."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def assert_shows(tab: Tab, bars: dict[datetime, Bar]) -> None:
    """The chart's series and the page's bars equal Cassandra's."""
    shown, candles = tab.bars(), tab.candles()
    assert shown.keys() == {iso(start) for start in bars}
    for start, bar in bars.items():
        seen = shown[iso(start)]
        for name in (*PRICES, "trade_count", "is_final", "is_complete", "revision", "session"):
            assert seen[name] == getattr(bar, name), (start, name)
        assert seen["volume"] == float(bar.volume)
        if bar.open is not None:  # without prices it has a place on the axis and no candle
            candle = candles.pop(int(start.timestamp()))
            assert [candle[name] for name in PRICES] == [getattr(bar, name) for name in PRICES]
    assert candles == {}


def of_symbol(pipeline: Pipeline, symbol: str, interval: str = "5m") -> dict[datetime, Bar]:
    bars = pipeline.bars(Interval(interval)).items()
    return {start: bar for (name, start), bar in bars if name == symbol}


def test_the_candles_are_the_bars_of_cassandra(
    pipeline: Pipeline, api: ServedApi, open_page: Open
) -> None:
    """The tape worked by hand, from trades through every part to the page."""
    apart(lambda: pipeline.send_tape(TAPE))
    pipeline.ingest()
    pipeline.finalize()

    tab = open_page("?symbol=TEST&interval=5m&range=all")
    tab.wait("tapeline.bars().length === 4")
    assert_shows(tab, of_symbol(pipeline, "TEST"))
    expected = hand_bars(Interval.FIVE_MINUTES)
    for start, bar in tab.bars().items():
        by_hand = expected["TEST", datetime.fromisoformat(start)]
        assert [bar[name] for name in PRICES] == [by_hand[name] for name in PRICES]
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("ArrowRight")
    tab.wait("tapeline.state.interval === '1h' && tapeline.bars().length === 2")
    assert_shows(tab, of_symbol(pipeline, "TEST", "1h"))
    assert tab.errors == []
    asked = {urlsplit(address) for address in tab.addresses}
    assert {a.netloc for a in asked if a.scheme != "data"} == {urlsplit(api.url).netloc}


def a_tape(folder: Path, name: str, trades: list[tuple[datetime, float]]) -> Path:
    """Write trades of AAPL as a tape."""
    path = folder / f"{name}.csv"
    lines = [f"{int(t.timestamp() * 1000)},AAPL,{price},100," for t, price in trades]
    path.write_text("event_time_ms,symbol,price,volume,conditions\n" + "\n".join(lines) + "\n")
    return path


def test_a_bar_moves_from_provisional_to_final_to_revised(
    pipeline: Pipeline, open_page: Open, tmp_path: Path
) -> None:
    now = datetime.now(timezone.utc) - timedelta(seconds=30)
    before = now - timedelta(minutes=30)
    apart(lambda: pipeline.send_tape(a_tape(tmp_path, "a", [(before, 270.0)])))
    pipeline.preview()
    tab = open_page("?symbol=AAPL")
    tab.wait("tapeline.bars().length === 1")

    trades = [(now, 271.0), (now + timedelta(seconds=1), 272.5)]
    apart(lambda: pipeline.send_tape(a_tape(tmp_path, "b", trades), "second"))
    pipeline.preview()
    tab.wait("tapeline.bars().some((bar) => bar.close === 272.5 && !bar.is_final)")
    assert "provisional" in tab.page.inner_text("#legend")
    assert_shows(tab, of_symbol(pipeline, "AAPL"))

    pipeline.ingest()
    pipeline.finalize()
    tab.wait("tapeline.bars().every((bar) => bar.is_final)")
    assert "final" in tab.page.inner_text("#legend").split()
    assert_shows(tab, of_symbol(pipeline, "AAPL"))

    late = [(before + timedelta(milliseconds=1), 260.25)]
    apart(lambda: pipeline.send_tape(a_tape(tmp_path, "c", late), "third"))
    pipeline.ingest()
    pipeline.finalize()
    tab.wait("tapeline.bars().some((bar) => bar.revision === 2 && bar.low === 260.25)")
    assert_shows(tab, of_symbol(pipeline, "AAPL"))
    assert tab.errors == []


def test_the_page_survives_a_crash_of_the_api_and_of_cassandra(
    pipeline: Pipeline,
    api: ServedApi,
    open_page: Open,
    market: Market,
    home: Home,
    turn: Callable[[], AbstractContextManager[None]],
) -> None:
    tab = open_page("?symbol=AAPL&range=5d")
    tab.wait(f"tapeline.bars().length === {len(market.bars['AAPL'])}")
    tab.wait_for_state("live")

    api.kill()
    tab.wait_for_state("lost")
    assert "does not answer" in tab.page.inner_text("#banner")
    write_again(pipeline, market, close=1.25)
    api.start()
    tab.wait("tapeline.bars().some((bar) => bar.close === 1.25)")

    service = next(s for s in read_state(home).services if s.name == cassandra.NAME)
    with turn():
        service.stop()
        tab.wait_for_state("store")
        again = LocalStack(home, Console()).up(keep=True)
    assert service.port in {s.port for s in again.services if s.name == cassandra.NAME}
    tab.wait("!['store', 'lost'].includes(document.getElementById('feed').dataset.state)")
    wait_for(lambda: answers(pipeline))
    write_again(pipeline, market, close=2.5)
    tab.wait("tapeline.bars().some((bar) => bar.close === 2.5)")
    assert_shows(tab, of_symbol(pipeline, "AAPL"))


def answers(pipeline: Pipeline) -> bool:
    """Return whether the test's own connections have come back."""
    try:
        return bool(pipeline.bars())
    except (DriverException, NoHostAvailable):
        return False


def write_again(pipeline: Pipeline, market: Market, close: float) -> None:
    """Revise an old bar of AAPL."""
    now = datetime.now(timezone.utc)
    bar = replace(market.bars["AAPL"][40], close=close, revision=int(close * 4), updated_at=now)
    pipeline.client.write_final_bars(Interval.FIVE_MINUTES, [(bar, int(now.timestamp() * 1e6))])


def test_an_empty_keyspace_says_what_to_do(open_page: Open) -> None:
    tab = open_page()
    tab.wait("document.querySelector('#message code') !== null")
    assert "tapeline demo" in tab.page.inner_text("#message")
    assert tab.errors == []


@pytest.mark.usefixtures("market")
def test_the_url_says_what_is_shown_and_the_back_button_leads_back(open_page: Open) -> None:
    tab = open_page()
    page = tab.page
    tab.wait("tapeline.bars().length > 100")
    page.click("#watch button[data-symbol='BINANCE:BTCUSDT']")
    page.click("#intervals button[data-name='1h']")
    page.keyboard.press("2")
    tab.wait("tapeline.bars().length === 36 || tapeline.bars().length === 35")
    assert page.url.endswith("?symbol=BINANCE%3ABTCUSDT&interval=1h&range=5d")
    page.go_back()
    tab.wait("tapeline.state.range === '1d'")
    page.go_back()
    tab.wait("tapeline.state.interval === '5m' && tapeline.bars().length > 100")
    page.keyboard.press("/")
    page.keyboard.type("eur")
    page.keyboard.press("Enter")
    tab.wait("tapeline.state.symbol === 'OANDA:EUR_USD' && tapeline.bars().length > 100")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert "OANDA:EUR_USD" in page.inner_text("#table caption")
    assert tab.errors == []


@pytest.mark.parametrize(
    "look",
    [
        *("dark", "phone"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("light", "phone-light")),
    ],
)
def test_it_is_accessible_in_every_look(market: Market, open_page: Open, look: str) -> None:
    scheme, options = LOOKS[look]
    tab = open_page("?symbol=NVDA", scheme, **options)
    tab.wait("tapeline.bars().length > 100")
    tab.wait("document.querySelectorAll('#watch .change:not(:empty)').length > 5")
    tab.wait("document.getElementById('health').children.length > 0")
    tab.page.wait_for_timeout(1500)
    tab.wait("document.getAnimations().every((one) => one.animationName === 'pulse')")
    if WRITES_IMAGES:
        IMAGES.mkdir(exist_ok=True)
        tab.page.evaluate("document.getElementById('keyspace').textContent = 'demo'")
        tab.page.screenshot(path=IMAGES / f"dashboard-{look}.png")

    for view in ("chart", "table", "keys"):
        if view != "chart":
            tab.page.keyboard.press("t" if view == "table" else "?")
        found = Axe().run(tab.page).response["violations"]
        grave = [v for v in found if v["impact"] in {"serious", "critical"}]
        assert not grave, [(v["id"], [n["html"] for n in v["nodes"]]) for v in grave]
    assert tab.errors == []
    assert market.gap.kind.value == "disconnected"
