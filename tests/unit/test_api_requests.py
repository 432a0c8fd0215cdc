"""HEAD, parameters that are not ours, other sites' pages, a proxy's path; no store is needed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from tapeline.api.app import create_app
from tapeline.api.socket_api import Wish
from tapeline.local.service import LOOPBACK
from tapeline.program.settings import ApiSettings, load_settings
from tests.served import serving, under_path

ELSEWHERE = {"Origin": "https://charts.example"}


def app_of(cors_origins: str = "") -> FastAPI:
    """Return an application whose Cassandra is away."""
    settings = load_settings()
    cassandra = settings.cassandra.model_copy(update={"host": LOOPBACK, "port": 9})
    api = ApiSettings(cors_origins=cors_origins)
    return create_app(settings.model_copy(update={"cassandra": cassandra, "api": api}))


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(app_of()) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    ["/", "/health/live", "/openapi.json", "/static/app.js", "/v1/bars/A?interval=7m", "/nothing"],
)
def test_head_is_get_without_its_body(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)

    assert head.status_code == got.status_code
    assert head.content == b""
    for name in ("content-type", "content-length", "cache-control", "etag"):
        assert head.headers.get(name) == got.headers.get(name), name


def test_head_of_a_stream_ends_at_once(client: httpx.Client) -> None:
    head = client.head("/v1/stream", params={"symbols": "A"}, timeout=5)

    assert head.status_code == 200
    assert head.headers["content-type"].startswith("text/event-stream")
    assert client.get("/metrics").text.count("tapeline_api_listeners 0.0") == 1


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("from=2026-01-01", "start"),
        ("to=2026-01-01", "end"),
        ("symbol=A", "symbols"),
        ("timeframe=5m", "interval"),
        ("Limit=5", "limit"),
        ("intervall=5m", "interval"),
    ],
)
def test_an_unknown_parameter_is_named_with_the_one_that_was_meant(
    client: httpx.Client, query: str, meant: str
) -> None:
    answer = client.get(f"/v1/bars?symbols=A&{query}")

    assert answer.status_code == 422
    name = query.split("=", maxsplit=1)[0]
    detail = f"{name}: there is no such parameter here; {meant} may be meant"
    assert answer.json()["detail"] == detail


@pytest.mark.parametrize("path", ["/v1/bars/AAPL?", "/v1/bars?symbols=AAPL&"])
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("interval=1d&session=pre", "session: 'pre' is no session of 1d bars: give regular"),
        ("session=mixed", "session: 'mixed' is no session of 5m bars: give pre, regular"),
        ("session=lunch", "session: Input should be 'pre', 'regular'"),
    ],
)
def test_a_session_that_no_bar_can_hold_is_refused(
    client: httpx.Client, path: str, query: str, detail: str
) -> None:
    answer = client.get(path + query)

    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/bars/AAPL?interval=1000tick",
        "/v1/bars?symbols=AAPL&interval=1000tick",
        "/v1/bars/latest?symbols=AAPL&interval=1000tick",
        "/v1/stream?symbols=AAPL&interval=5m,1000tick",
    ],
)
def test_bars_that_end_by_what_was_traded_are_refused_with_where_they_are(
    client: httpx.Client, path: str
) -> None:
    answer = client.get(path)

    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "interval: '1000tick' bars are made of trades when they are read, and are neither paged "
        "nor streamed: take them from `tapeline bars`, `tapeline export bars` or read_bars"
    )


def test_a_socket_refuses_them_alike() -> None:
    wish = {"action": "subscribe", "symbols": ["AAPL"], "interval": "0.5volume"}
    with pytest.raises(ValidationError, match=r"'0\.5volume' bars are made of trades when"):
        Wish.model_validate(wish)
    with pytest.raises(ValidationError, match="Input should be '1m'"):
        Wish.model_validate({**wish, "interval": 5})


def test_where_nothing_is_near_the_parameters_are_listed(client: httpx.Client) -> None:
    answer = client.get("/v1/symbols?xyz=1")
    assert answer.json()["detail"] == "xyz: there is no such parameter here; there are none"
    answer = client.get("/v1/gaps?xyz=1")
    listed = "xyz: there is no such parameter here; there are start, end, limit"
    assert answer.json()["detail"] == listed


def test_a_parameter_that_takes_one_value_is_not_given_twice(client: httpx.Client) -> None:
    answer = client.get("/v1/bars?symbols=A&interval=5m&interval=1h")
    assert (answer.status_code, answer.json()["detail"]) == (422, "interval: give it once")


def test_symbols_may_be_repeated_or_have_commas(client: httpx.Client) -> None:
    """With a name that no symbol has, each form is refused for it; alone, the store is asked."""
    for query in ("symbols=A&symbols=B%00", "symbols=A,B%00", "symbols=,&symbols="):
        assert client.get(f"/v1/bars?{query}").status_code == 422, query
    assert client.get("/v1/bars?symbols=A&symbols=B,C").status_code == 503


def test_only_pages_of_named_origins_may_read(client: httpx.Client) -> None:
    assert (
        "access-control-allow-origin" not in client.get("/health/live", headers=ELSEWHERE).headers
    )
    with serving(app_of("https://charts.example, https://other.example")) as named:
        allowed = named.get("/health/live", headers=ELSEWHERE)
        preflight = named.options(
            "/v1/bars", headers={**ELSEWHERE, "Access-Control-Request-Method": "GET"}
        )
        other = named.get("/health/live", headers={"Origin": "https://evil.example"})
    assert allowed.headers["access-control-allow-origin"] == ELSEWHERE["Origin"]
    assert preflight.status_code == 200
    assert "access-control-allow-origin" not in other.headers


def test_under_a_path_of_a_proxy_everything_is_there() -> None:
    with serving(under_path("/market/data", app_of())) as client:
        page = client.get("/market/data/")
        named = client.get("/market/data/openapi.json").json()["servers"]
        bars = client.get("/market/data/v1/bars?symbols=A&from=1")
    assert page.status_code == 200
    assert 'src="/' not in page.text
    assert 'href="/' not in page.text
    assert named == [{"url": "/market/data"}]
    assert bars.json()["detail"].startswith("from: ")
