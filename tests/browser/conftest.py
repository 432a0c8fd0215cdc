"""A real Chromium, the real page, and a market of a day for it to show."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.market_day import Market, write_market
from tests.pipeline import Pipeline
from tests.served import ServedApi, served_api

# For a machine with two more stacks of tests on it.
expect.set_options(timeout=60_000)
LONG_MS = 300_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1440, "height": 860}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


@dataclass
class Tab:
    """An open page, with what it complained of and which addresses it asked."""

    page: Page
    errors: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def bars(self) -> dict[str, dict[str, Any]]:
        """Return the bars that the page holds, by start."""
        return {bar["window_start"]: bar for bar in self.page.evaluate("tapeline.bars()")}

    def candles(self) -> dict[int, dict[str, Any]]:
        """Return what the chart's series holds, by start (s since the epoch)."""
        return {candle["time"]: candle for candle in self.page.evaluate("tapeline.candles()")}

    def wait(self, condition: str, timeout_s: float = 300) -> None:
        """Wait until an expression of JavaScript is true."""
        deadline = time.monotonic() + timeout_s
        # Asked from outside: the page's own policy forbids what Playwright would put into it.
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, (condition, self.page.inner_text("body"))
            self.page.wait_for_timeout(100)

    def wait_for_state(self, state: str, timeout_s: float = 300) -> None:
        """Wait until the feed's sign says so."""
        self.wait(f"document.getElementById('feed').dataset.state === '{state}'", timeout_s)


Open = Callable[..., Tab]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    assert path, f"None of {', '.join(_NAMES)} is on the PATH: install Chromium."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def api(pipeline: Pipeline) -> Iterator[ServedApi]:
    """A running `tapeline api` on the pipeline's keyspace."""
    kafka = pipeline.settings.kafka
    environment = {
        "TAPELINE_KAFKA__STATUS_TOPIC": kafka.status_topic,
        "TAPELINE_KAFKA__GAPS_TOPIC": kafka.gaps_topic,
        "TAPELINE_API__SYMBOL_CHANGES": "local",
    }
    with served_api(pipeline.name, environment) as api:
        yield api


@pytest.fixture
def market(pipeline: Pipeline) -> Market:
    """A day of bars of a random market, with a gap, a revision and provisional bars."""
    return write_market(pipeline)


@pytest.fixture
def open_page(browser: Browser, api: ServedApi) -> Iterator[Open]:
    """Open the page in a window of its own, as many times as wanted."""
    contexts = []

    def open_tab(query: str = "", scheme: str = "dark", **options: Any) -> Tab:
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            timezone_id="America/New_York",
            **(options or DESKTOP),
        )
        context.set_default_timeout(LONG_MS)
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.page.on(
            "console",
            lambda line: tab.errors.append(line.text) if line.type == "error" else None,
        )
        tab.page.on("request", lambda request: tab.addresses.append(request.url))
        tab.page.goto(f"{api.url}/{query}")
        return tab

    yield open_tab
    for context in contexts:
        context.close()
