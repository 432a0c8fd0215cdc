"""Many tabs of one browser, and the page under a path of a proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tapeline.api.app import create_app
from tests.pipeline import Pipeline
from tests.served import ServedApi, serving, under_path

from .conftest import LONG_MS, Tab

TABS = 12
SHOWS = "tapeline.bars().length > 100 && document.getElementById('feed').dataset.state !== 'wait'"


@pytest.mark.usefixtures("market")
def test_a_dozen_tabs_of_one_browser_all_show_bars_and_are_live(
    browser: Browser, api: ServedApi
) -> None:
    """A browser opens six connections to a host, however many tabs there are."""
    context = browser.new_context()
    context.set_default_timeout(LONG_MS)
    tabs = [Tab(context.new_page()) for _ in range(TABS)]
    for tab in tabs:
        tab.page.goto(api.url)
    for tab in tabs:
        tab.wait(SHOWS)
        tab.wait("document.getElementById('feed').dataset.state !== 'lost'")
        # One that has to wait for a free connection would wait for ever.
        assert tab.page.evaluate("fetch('v1/symbols').then((answer) => answer.status)") == 200
    context.close()


@pytest.mark.usefixtures("market")
def test_under_a_path_of_a_proxy_the_page_asks_for_nothing_else(
    pipeline: Pipeline, browser: Browser
) -> None:
    with serving(under_path("/market/data", create_app(pipeline.settings))) as client:
        page = browser.new_page()
        page.set_default_timeout(LONG_MS)
        tab = Tab(page)
        page.on("request", lambda request: tab.addresses.append(request.url))
        page.on("websocket", lambda socket: tab.addresses.append(socket.url))
        page.goto(f"{client.base_url}/market/data/")
        tab.wait(SHOWS)
        tab.wait("document.getElementById('feed').dataset.state !== 'lost'")
        page.close()
    paths = {urlsplit(address).path for address in tab.addresses if ":" in address[:6]}
    assert "/market/data/v1/ws" in paths
    assert all(path.startswith("/market/data/") for path in paths), paths
