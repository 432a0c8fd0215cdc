"""The demo's table, drawn at the widths that terminals have."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from rich.console import Console

from tapeline.api.bar_pages import row_of
from tapeline.api.formats import to_json
from tapeline.cli.demo import _latest, _table, _Until
from tapeline.client.api import Api
from tapeline.client.bars import StreamedBar
from tapeline.demo.market import SIMULATED, Market, public_market
from tapeline.local.ports import free_port
from tapeline.model.bar import Bar
from tapeline.model.errors import FeedError
from tapeline.program.settings import load_settings
from tests.exchanges import DIALECTS, Exchange

START = datetime(2026, 11, 23, 5, 10, tzinfo=timezone.utc)
END = START + timedelta(minutes=5)
PRICES = (84_899.64, 85_153.97, 84_811.01, 85_153.97)
BARS = [
    StreamedBar(
        "BINANCE:BTCUSDT",
        "5m",
        START,
        END,
        *PRICES,
        18.34521,
        84_990.1,
        12_139,
        is_final=True,
        is_complete=True,
        revision=2,
        session="continuous",
    ),
    StreamedBar(
        "KO",
        "5m",
        START,
        END,
        *(None, None, None, None),
        5.0,
        None,
        1,
        is_final=False,
        is_complete=None,
        revision=0,
        session="pre",
    ),
]


def drawn(width: int) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(_table(BARS, SIMULATED, width))
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


def bar_of(start):
    return replace(BARS[1], window_start=start, window_end=start + timedelta(minutes=5))


def test_the_view_ends_so_long_after_the_first_bar_of_this_demo():
    until = _Until(threading.Event(), 1.2)
    assert not until.is_over()
    now = datetime.now(timezone.utc)
    until.saw([bar_of(now - timedelta(hours=1))])  # kept from the last one
    earlier_s = time.monotonic()
    while time.monotonic() - earlier_s < 1.5:
        assert not until.is_over()
    until.saw([bar_of(now)])
    seen_s = time.monotonic()
    while not until.is_over():
        pass
    assert 1.2 <= time.monotonic() - seen_s < 10


def test_the_view_ends_at_a_signal():
    stop = threading.Event()
    stop.set()
    assert _Until(stop, None).is_over()


def read_from(port):
    return _latest(Api(f"http://127.0.0.1:{port}/"), SIMULATED.symbols)


def test_there_are_no_bars_while_the_api_is_not_there():
    assert read_from(free_port(0)) == []


class OneBar(BaseHTTPRequestHandler):
    """Answers every request with a bar."""

    def do_GET(self):
        body = b'{"bars": [%s]}' % to_json(
            row_of(Bar("KO", START, END, *PRICES, Decimal(1), Decimal(2), 2.0, 1))
        )
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_api_of_this_machine_is_asked_without_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), OneBar) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        (bar,) = read_from(server.server_port)
    assert (bar.symbol, bar.window_start, bar.close, bar.volume) == ("KO", START, PRICES[3], 1.0)


def test_a_live_demo_shows_the_first_public_feed_that_answers(monkeypatch):
    closed = f"ws://127.0.0.1:{free_port(0)}"
    for name in ("COINBASE", "KRAKEN", "BINANCE"):
        monkeypatch.setenv(f"TAPELINE_FEEDS__{name}", closed)
    with pytest.raises(FeedError, match="None of Coinbase, Kraken, Binance can be reached"):
        public_market(load_settings())
    kraken = next(dialect for dialect in DIALECTS if dialect.name == "kraken")
    with Exchange(kraken).running() as exchange:
        monkeypatch.setenv("TAPELINE_FEEDS__KRAKEN", exchange.url)
        found = public_market(load_settings())
    symbols = ("KRAKEN:BTC/USD", "KRAKEN:ETH/USD", "KRAKEN:SOL/USD")
    assert found == Market("Kraken", "kraken", symbols, "demo_live")
    assert not found.is_simulated
