"""`stream_bars` refuses mistakes at once, and says when no API answers."""

from __future__ import annotations

import socket
from datetime import datetime, timezone

import pytest

from tapeline import stream_bars
from tapeline.model.errors import ServiceUnavailableError

NOON = datetime(2026, 11, 3, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"symbols": []}, "Give one symbol to 500, not 0"),
        ({"symbols": [str(n) for n in range(501)]}, "Give one symbol to 500, not 501"),
        ({"symbols": "AAPL", "interval": "7m"}, "7m"),
        ({"symbols": "AAPL", "since": datetime(2026, 11, 3)}, "since needs a time zone"),  # noqa: DTZ001
        ({"symbols": "AAPL", "url": "127.0.0.1:8700"}, "is not a valid address of an API"),
        ({"symbols": "AAPL", "url": "ftp://127.0.0.1"}, "is not a valid address of an API"),
    ],
)
def test_a_mistake_is_said_before_anything_is_asked(arguments, said):
    with pytest.raises(ValueError, match=said):
        stream_bars(**arguments)


def test_where_no_api_answers_the_first_bar_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ServiceUnavailableError, match=f"No API answers at http://127.0.0.1:{port}"):
        next(iter(stream_bars("AAPL", since=NOON, url=f"http://127.0.0.1:{port}")))
