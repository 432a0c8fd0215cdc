"""The page of an API with keys: it asks for one, by keyboard alone, in both looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.served import serving_with

from .conftest import DESKTOP, LONG_MS, PHONE

KEY = "2b7e151628aed2a6abf7158809cf4f3c"
LOOKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dark": ("dark", DESKTOP),
    "light": ("light", DESKTOP),
    "phone": ("light", PHONE),
}
HEARS = """new Promise((heard) => {
  const socket = new WebSocket(new URL("v1/ws", document.baseURI.replace(/^http/, "ws")));
  socket.onmessage = (message) => heard(JSON.parse(message.data).event);
  socket.onclose = (closed) => heard(`closed ${closed.code}`);
})"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API with one key, whose Cassandra is away: what it answers says so."""
    file: Path = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"anna:{KEY}\n", encoding="utf-8")
    file.chmod(0o600)
    with serving_with(keys_file=file) as client:
        yield str(client.base_url)


def grave_faults(page: Page) -> list[str]:
    """Return what keeps readers with a screen reader, or who see contrasts less well, out."""
    found = Axe().run(page).response["violations"]
    return [fault["id"] for fault in found if fault["impact"] in {"serious", "critical"}]


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_asks_for_a_key_and_opens_with_it(browser: Browser, url: str, look: str) -> None:
    scheme, options = LOOKS[look]
    context = browser.new_context(color_scheme=scheme, **options)
    context.set_default_timeout(LONG_MS)
    page: Page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)

    dialog, field = page.get_by_role("dialog"), page.get_by_label("API key")
    expect(field).to_be_focused()
    assert grave_faults(page) == []
    assert page.evaluate(HEARS) == "closed 1006"

    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    page.keyboard.press("Enter")  # without a key nothing is sent
    assert not any("session" in address for address in asked)
    field.fill(KEY[::-1])
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="does not know this key")).to_be_visible()
    assert grave_faults(page) == []
    count = len(asked)
    page.wait_for_timeout(3500)  # nothing more is asked while the reader looks for a key
    assert len(asked) == count

    field.fill(f" {KEY} ")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_contain_text("Cassandra does not answer")
    expect(dialog).to_be_hidden()
    assert page.evaluate(HEARS) == "state"
    assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
    assert [address for address in asked if KEY[:8] in address] == []
    page.reload()
    expect(page.locator("#message")).to_contain_text("Cassandra does not answer")
    expect(dialog).to_be_hidden()
    context.close()
