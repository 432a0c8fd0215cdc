"""The API on a real Cassandra: what it answers is what the keyspace holds."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import httpx
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import uvicorn
from fastapi.testclient import TestClient

from tapeline.api.app import create_app
from tapeline.bar import Bar, Interval
from tapeline.local.service import LOOPBACK, free_port
from tapeline.settings import load_settings
from tests.hand import TAPE, hand_bars
from tests.pipeline import Pipeline
from tests.sample import a_bar

DAY = {"start": "2024-03-15T00:00:00Z", "end": "2024-03-16T00:00:00Z"}
PRICES = ("open", "high", "low", "close")


@pytest.fixture
def settled(pipeline: Pipeline) -> Pipeline:
    """The tape worked by hand, settled."""
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.settle()
    return pipeline


@pytest.fixture
def client(pipeline: Pipeline) -> Iterator[TestClient]:
    with TestClient(create_app(pipeline.settings)) as client:
        yield client


def start_of(row: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(row["window_start"]).replace("Z", "+00:00"))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_bars_are_those_worked_by_hand(client: TestClient, interval: str) -> None:
    answer = client.get("/v1/bars/TEST", params={"interval": interval, **DAY})

    body = answer.json()
    expected = {k: v for k, v in hand_bars(Interval(interval)).items() if k[0] == "TEST"}
    assert (answer.status_code, body["symbol"], body["interval"]) == (200, "TEST", interval)
    assert {("TEST", start_of(row)) for row in body["bars"]} == expected.keys()
    for row in body["bars"]:
        bar = expected["TEST", start_of(row)]
        assert [row[name] for name in PRICES] == [bar[name] for name in PRICES]
        assert row["volume"] == float(str(bar["volume"]))
        assert (row["is_final"], row["revision"], row["session"]) == (True, 1, "regular")
    assert "max-age" in answer.headers["cache-control"]


@pytest.mark.usefixtures("settled")
def test_pages_join_to_the_whole_and_no_bar_comes_twice(client: TestClient) -> None:
    whole = client.get("/v1/bars/TEST", params=DAY).json()
    pages, cursor = [], None
    while True:
        query = {**DAY, "limit": 1, **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/bars/TEST", params=query).json()
        pages += page["bars"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert pages == whole["bars"]
    assert len(pages) == 4
    assert whole["next_cursor"] is None


@pytest.mark.usefixtures("settled")
def test_the_same_bars_come_as_csv_and_arrow(client: TestClient) -> None:
    as_json = client.get("/v1/bars/TEST", params=DAY).json()["bars"]
    csv = client.get("/v1/bars/TEST", params=DAY, headers={"Accept": "text/csv"})
    arrow = client.get(
        "/v1/bars/TEST", params=DAY, headers={"Accept": "application/vnd.apache.arrow.stream"}
    )

    from_csv = pacsv.read_csv(io.BytesIO(csv.content))
    from_arrow = pa.ipc.open_stream(arrow.content).read_all()
    for table in (from_csv, from_arrow):
        assert table["close"].to_pylist() == [row["close"] for row in as_json]
        assert table["volume"].to_pylist() == [row["volume"] for row in as_json]
    assert csv.headers["content-type"].startswith("text/csv")


@pytest.mark.usefixtures("settled")
def test_gaps_between_bars_are_filled_flat_on_request(client: TestClient) -> None:
    """TEST has bars at 14:30, 14:35 (without prices), 14:40 and 16:30."""
    rows = client.get("/v1/bars/TEST", params={**DAY, "fill": "flat"}).json()["bars"]

    filled = [row for row in rows if row["is_filled"]]
    assert len(rows) == 25  # 14:30 to 16:30
    assert len(filled) == 21
    real = {row["window_start"]: row for row in rows if not row["is_filled"]}
    close = real["2024-03-15T14:40:00Z"]["close"]
    assert {row["open"] for row in filled} == {row["close"] for row in filled} == {close}
    assert {(row["volume"], row["trade_count"]) for row in filled} == {(0.0, 0)}


@pytest.mark.usefixtures("settled")
def test_symbols_gaps_and_health(client: TestClient) -> None:
    assert client.get("/v1/symbols").json() == {"symbols": ["COIN:TESTUSD", "TEST"]}
    assert client.get("/v1/gaps").json() == {"gaps": []}
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert client.get("/").text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/v1/bars/A", {"interval": "7m"}, "interval"),
        ("/v1/bars/A", {"start": "yesterday"}, "start"),
        ("/v1/bars/A", {"start": "2026-01-02", "end": "2026-01-01"}, "start"),
        ("/v1/bars/A", {"limit": "0"}, "limit"),
        ("/v1/bars/A", {"cursor": "!"}, "cursor"),
        ("/v1/bars/A", {"fill": "up"}, "fill"),
        ("/v1/bars/latest", {"symbols": ","}, "symbols"),
    ],
)
def test_a_wrong_question_is_a_problem_that_names_the_field(
    client: TestClient, path: str, query: dict[str, str], name: str
) -> None:
    answer = client.get(path, params=query)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(f"{name}: ")


def test_without_a_database_it_says_so_and_comes_back() -> None:
    settings = load_settings()
    cassandra = settings.cassandra.model_copy(update={"host": LOOPBACK, "port": 9})
    with TestClient(create_app(settings.model_copy(update={"cassandra": cassandra}))) as client:
        answer = client.get("/v1/symbols")
        assert client.get("/health/live").status_code == 200

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Cassandra does not answer at 127.0.0.1:9" in answer.json()["detail"]


@asynccontextmanager
async def served(pipeline: Pipeline) -> AsyncIterator[str]:
    """Serve the API on a port, as `tapeline api` does."""
    port = free_port(0)
    server = uvicorn.Server(
        uvicorn.Config(create_app(pipeline.settings), host=LOOPBACK, port=port, log_level="error")
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells by this flag alone
        await asyncio.sleep(0.05)
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.should_exit = True
        await task


def write(pipeline: Pipeline, bar: Bar) -> Bar:
    """Put a bar into gold as if it had just changed."""
    now = datetime.now(timezone.utc)
    bar = replace(bar, updated_at=now)
    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(bar, int(now.timestamp() * 1e6))])
    return bar


async def next_bar(lines: AsyncIterator[str]) -> tuple[int, dict[str, object]]:
    """Read events up to the next bar; return its id and content."""
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif fields.get("event") == "bar":
            return int(fields["id"]), json.loads(fields["data"])
        else:
            fields = {}
    raise AssertionError


def test_changes_come_as_events_and_are_not_lost_between_two_connections(
    pipeline: Pipeline,
) -> None:
    now = datetime.now(timezone.utc)
    start = now - (now - datetime(2000, 1, 1, tzinfo=timezone.utc)) % timedelta(minutes=5)
    first = a_bar(window_start=start, volume=Decimal("1.5"))

    async def listen() -> list[tuple[int, dict[str, object]]]:
        heard = []
        async with served(pipeline) as url, httpx.AsyncClient(timeout=30) as http:
            query = {"symbols": "AAPL,MSFT", "interval": "5m"}
            async with http.stream("GET", f"{url}/v1/stream", params=query) as answer:
                lines = answer.aiter_lines()
                await asyncio.sleep(2)  # the first look at the store
                write(pipeline, first)
                heard.append(await next_bar(lines))
                write(pipeline, replace(first, close=2.5, trade_count=5))
                heard.append(await next_bar(lines))
            write(pipeline, replace(first, is_final=True, revision=1, trade_count=6))
            headers = {"Last-Event-ID": str(heard[-1][0])}
            async with http.stream(
                "GET", f"{url}/v1/stream", params=query, headers=headers
            ) as answer:
                heard.append(await next_bar(answer.aiter_lines()))
        return heard

    heard = asyncio.run(asyncio.wait_for(listen(), 60))

    assert [bar["trade_count"] for _, bar in heard] == [4, 5, 6]
    assert [bar["is_final"] for _, bar in heard] == [False, False, True]
    assert [number for number, _ in heard] == sorted(number for number, _ in heard)
    assert {bar["symbol"] for _, bar in heard} == {"AAPL"}
