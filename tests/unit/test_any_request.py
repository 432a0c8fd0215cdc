"""Whatever a client asks of the API: an answer, or what is wrong with the question."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote, urlencode

import orjson
import pytest
from hypothesis import strategies as st

from tapeline.api.app import create_app
from tapeline.api.live_view import LiveView
from tapeline.api.parameters import cursor_of
from tapeline.api.store import Store
from tapeline.model.bar import Interval
from tapeline.program.metrics import API_METRICS, Metrics
from tapeline.program.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient
from tests.fuzz import hold, mutated

NOW_MS = 1_763_649_060_000
ANSWERS = ("subscribed", "unsubscribed", "error")


class Empty(CassandraClient):
    """A keyspace without rows; no Cassandra is asked."""

    def __init__(self) -> None:
        """Connect to nothing."""

    def rows(self, *_: object) -> list[Any]:  # type: ignore[override]
        return []

    def tuples(self, _: str, arguments: Iterable[Any], *__: object, **___: object) -> Iterator[Any]:
        return iter([[] for _ in arguments])

    def close(self) -> None:
        """There is nothing to close."""


class Nothing(Store):
    """A store whose keyspace is empty."""

    def _connect(self) -> CassandraClient:
        return Empty()


class Client:
    """Asks the API as its server does, which lets no request through that is not in ASCII."""

    def __init__(self) -> None:
        self.app = create_app(load_settings())
        self.app.state.store = Nothing(load_settings(), self.app.state.metrics)
        self.loop = asyncio.new_event_loop()

    def get(self, path: bytes, query: bytes, accept: bytes) -> tuple[Any, ...]:
        """Return the status, the media type and the body."""
        messages = [{"type": "http.request", "body": b"", "more_body": False}]
        scope = {
            "type": "http",
            "method": "GET",
            "query_string": quote(query, string.punctuation).encode(),
            "headers": [(b"accept", accept)],
        }
        start, *parts = self._send(scope, path, messages)
        kinds = [value for name, value in start["headers"] if name == b"content-type"]
        return start["status"], kinds, b"".join(part.get("body", b"") for part in parts)

    def say(self, *said: dict[str, Any]) -> list[dict[str, Any]]:
        """Connect a WebSocket, say something and go; return what was answered."""
        messages = [{"type": "websocket.connect"}]
        messages += [{"type": "websocket.receive", **message} for message in said]
        scope = {"type": "websocket", "headers": [], "query_string": b""}
        sent = self._send(scope, b"/v1/ws", messages)
        told = [orjson.loads(message["text"]) for message in sent if "text" in message]
        return [event for event in told if event["event"] in ANSWERS]

    def _send(self, scope: dict[str, Any], path: bytes, messages: list[Any]) -> list[Any]:
        sent: list[Any] = []
        answered = asyncio.Event()

        async def receive() -> Any:
            if messages:
                message = messages.pop(0)
                if message["type"] == "websocket.receive":
                    answered.clear()
                return message
            await answered.wait()
            return {"type": f"{scope['type']}.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            sent.append(message)
            if any(f'"{word}"' in message.get("text", "") for word in ANSWERS):
                answered.set()

        answered.set()
        where = {"path": unquote(path), "raw_path": path, "root_path": "", "scheme": "http"}
        version = {"asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
        answer = self.app({**scope, **where, **version}, receive, send)
        self.loop.run_until_complete(asyncio.wait_for(answer, 5))
        assert not len(self.app.state.live.listeners)
        return sent


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.app.state.store.close()
    client.loop.close()


asked = st.sampled_from(
    [
        *("AAPL", "AAPL,MSFT", "5m", "1d", "1m,1h", "flat", "bars,trades", "0", "1", "10000"),
        *("regular", "mixed"),
        *("1970-01-01", "2099-12-31", "9999-12-31T24:00:00Z", "2026-11-20T14:30:00+23:59"),
        *(cursor_of("AAPL", NOW_MS), cursor_of(NOW_MS), cursor_of(NOW_MS, -(2**63))),
    ]
)
names = ["symbols", "interval", "start", "end", "limit", "cursor", "fill", "session", "channels"]
paths = ["bars", "bars/latest", "bars/AAPL", "trades/AAPL", "gaps", "stream", "symbols"]
requests = st.tuples(
    st.sampled_from([f"/v1/{path}".encode() for path in paths]),
    st.dictionaries(st.sampled_from(names), asked | st.text(max_size=8)).map(
        lambda query: urlencode(query).encode()
    ),
    st.binary(max_size=9),
)
QUERIES = [
    b"symbols=AAPL,MSFT&interval=5m&start=2026-11-20&end=2026-11-21T14:30:00Z&limit=10&fill=flat",
    b"symbols=AAPL&channels=bars,trades&interval=1m,1d&cursor=" + cursor_of("AAPL", 1).encode(),
    b"start=1970-01-01&limit=10000&interval=1d&cursor=" + cursor_of(NOW_MS, 5).encode(),
]


def request_of(seed: int) -> tuple[bytes, bytes, bytes]:
    path = f"/v1/{paths[seed % 7]}".encode()
    query, accept = mutated(seed, QUERIES[seed % 3]), mutated(seed, b"text/csv;q=0.5, */*")
    return path if seed % 5 else mutated(seed, path), query, accept


def test_any_request_is_answered_and_none_is_a_fault(client):
    def check(request: tuple[bytes, bytes, bytes]) -> None:
        status, kinds, body = client.get(*request)
        assert status in {200, 304, 307, 404, 406, 422}
        if status >= 400:
            assert kinds == [b"application/problem+json"]
            assert "\n" not in orjson.loads(body)["detail"].strip("\n")

    hold(check, requests, request_of, 100)


def test_any_message_of_a_socket_is_answered(client):
    wish = b'{"action":"subscribe","symbols":["AAPL"],"interval":"5m","channels":["bars"]}'

    def check(data: bytes) -> None:
        (answer,) = client.say({"bytes": data})
        assert answer["event"] in ANSWERS
        assert client.say({"text": data.decode(errors="replace")})

    hold(check, st.binary(max_size=20), lambda seed: mutated(seed, wish), 30)


@pytest.mark.parametrize("said", [[], [{"text": "x"}], [{"bytes": b"x"}], [{"bytes": b"\xff"}]])
def test_a_socket_ends_when_its_client_goes_however_soon(client, said):
    assert [answer["event"] for answer in client.say(*said)] == ["error"] * len(said)


def test_requests_for_ever_new_names_do_not_make_the_view_follow_ever_more():
    view = LiveView(load_settings(), Metrics(API_METRICS), lambda _: None)
    topics = [(Interval.FIVE_MINUTES, f"S{number}") for number in range(20_000)]
    for start in range(0, len(topics), 100):
        view.ask(topics[start : start + 100])
        view.ask(topics[:100])

    assert view.is_wanted(topics[0])
    assert sum(map(view.is_wanted, topics)) == 5_000
