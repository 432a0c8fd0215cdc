"""`stream_bars` and `stream_trades` refuse mistakes at once, and say when no API answers."""

from __future__ import annotations

import socket
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tapeline import stream_bars, stream_trades
from tapeline.client.api import Api
from tapeline.model.errors import ServiceUnavailableError

NOON = datetime(2026, 11, 3, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"symbols": []}, "Give one symbol to 500, not 0"),
        ({"symbols": [str(n) for n in range(501)]}, "Give one symbol to 500, not 501"),
        ({"symbols": "AAPL", "interval": "7m"}, "7m"),
        ({"symbols": "AAPL", "interval": "1000tick"}, "are neither paged nor streamed: take them"),
        ({"symbols": "AAPL", "since": datetime(2026, 11, 3)}, "since needs a time zone"),  # noqa: DTZ001
        ({"symbols": "AAPL", "url": "127.0.0.1:8700"}, "is not a valid address of an API"),
        ({"symbols": "AAPL", "url": "ftp://127.0.0.1"}, "is not a valid address of an API"),
    ],
)
def test_a_mistake_is_said_before_anything_is_asked(arguments, said):
    with pytest.raises(ValueError, match=said):
        stream_bars(**arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"symbols": [str(n) for n in range(251)]}, "Give one symbol to 250, not 251"),
        ({"symbols": "AAPL", "since": datetime(2026, 11, 3)}, "since needs a time zone"),  # noqa: DTZ001
        ({"symbols": "AAPL", "url": "127.0.0.1:8700"}, "is not a valid address of an API"),
    ],
)
def test_a_mistake_in_asking_for_trades_is_said_at_once_too(arguments, said):
    with pytest.raises(ValueError, match=said):
        stream_trades(**arguments)


def test_where_no_api_answers_the_first_bar_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ServiceUnavailableError, match=f"No API answers at http://127.0.0.1:{port}"):
        next(iter(stream_bars("AAPL", since=NOON, url=f"http://127.0.0.1:{port}")))


class BusyAtFirst(BaseHTTPRequestHandler):
    """Refuses the first request, as one too many."""

    asked = 0

    def do_GET(self):
        BusyAtFirst.asked += 1
        body = b'{"bars": []}'
        self.send_response(429 if self.asked == 1 else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_one_who_asks_too_often_waits_and_asks_again():
    with HTTPServer(("127.0.0.1", 0), BusyAtFirst) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = Api(f"http://127.0.0.1:{server.server_port}").get("/v1/bars", symbols="AAPL")
        finally:
            server.shutdown()
            thread.join()
    assert (found, BusyAtFirst.asked) == ({"bars": []}, 2)
