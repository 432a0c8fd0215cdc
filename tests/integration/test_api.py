"""The API on a real Cassandra: what it answers is what the keyspace holds."""

from __future__ import annotations

import asyncio
import io
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from cassandra.cluster import NoHostAvailable
from pyspark.sql import SparkSession

from tapeline.api.app import create_app
from tapeline.api.problems import Problem
from tapeline.api.store import Store
from tapeline.local.discovery import Endpoints
from tapeline.local.service import LOOPBACK
from tapeline.model.bar import Interval
from tapeline.program.metrics import API_METRICS, Metrics
from tapeline.program.settings import load_settings
from tapeline.read.bars import read_bars
from tapeline.storage.cassandra_client import CassandraClient
from tests.commands import TIMEOUT_S, is_healthy, wait_for
from tests.hand import TAPE, hand_bars
from tests.pipeline import Pipeline
from tests.sample import a_bar
from tests.served import serving

DAY = {"start": "2024-03-15T00:00:00Z", "end": "2024-03-16T00:00:00Z"}
ARROW = "application/vnd.apache.arrow.stream"
PROBLEM = "application/problem+json"
PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def finalized(
    spark: SparkSession, stack: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """The tape worked by hand, finalized once: these tests only read."""
    folder = tmp_path_factory.mktemp("api")
    with Pipeline.create(spark, stack, f"t{uuid.uuid4().hex[:12]}", folder) as pipeline:
        pipeline.send_tape(TAPE)
        pipeline.ingest()
        pipeline.finalize()
        yield pipeline


@pytest.fixture
def client(finalized: Pipeline) -> Iterator[httpx.Client]:
    with serving(create_app(finalized.settings)) as client:
        yield client


@pytest.fixture(scope="module")
def alone() -> Iterator[httpx.Client]:
    """An API without a database, for what is answered before one is asked."""
    settings = load_settings()
    cassandra = settings.cassandra.model_copy(update={"host": LOOPBACK, "port": 9})
    with serving(create_app(settings.model_copy(update={"cassandra": cassandra}))) as client:
        yield client


def start_of(row: dict[str, object]) -> datetime:
    return datetime.fromisoformat(str(row["window_start"]))


@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_bars_are_those_worked_by_hand(client: httpx.Client, interval: str) -> None:
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


def test_the_newest_bars_of_a_week_are_of_the_symbols_that_have_one(pipeline: Pipeline) -> None:
    today = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    ages = {"A": (2, 1), "B": (6 * 24,), "OLD": (8 * 24,)}
    bars = [
        a_bar(symbol=symbol, window_start=today - timedelta(hours=hours))
        for symbol in ages
        for hours in ages[symbol]
    ]
    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(bar, 10) for bar in bars])

    with serving(create_app(pipeline.settings)) as client:
        for interval in ("5m", "30m"):
            query = {"symbols": "OLD,B,A", "interval": interval}
            found = client.get("/v1/bars/latest", params=query).json()["bars"]
            assert [(row["symbol"], start_of(row)) for row in found] == [
                ("B", today - timedelta(hours=6 * 24)),
                ("A", today - timedelta(hours=1)),
            ]


def test_pages_join_to_the_whole_and_no_bar_comes_twice(client: httpx.Client) -> None:
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


def test_the_same_bars_come_as_csv_and_arrow(client: httpx.Client) -> None:
    as_json = client.get("/v1/bars/TEST", params=DAY).json()["bars"]
    csv = client.get("/v1/bars/TEST", params=DAY, headers={"Accept": "text/csv"})
    arrow = client.get(
        "/v1/bars/TEST", params=DAY, headers={"Accept": "application/vnd.apache.arrow.stream"}
    )

    from_csv = pacsv.read_csv(io.BytesIO(csv.content))
    from_arrow = pa.ipc.open_stream(arrow.content).read_all()
    for table in (from_csv, from_arrow):
        assert table.schema.names == from_arrow.schema.names
        assert set(table.schema.names) == set(as_json[0])
        assert table["close"].to_pylist() == [row["close"] for row in as_json]
        assert [float(v) for v in table["volume"].to_pylist()] == [r["volume"] for r in as_json]
        assert table["is_final"].to_pylist() == [row["is_final"] for row in as_json]
    assert from_arrow.schema.field("volume").type == pa.decimal128(38, 10)
    exact = [
        v["volume"] for k, v in sorted(hand_bars(Interval.FIVE_MINUTES).items()) if k[0] == "TEST"
    ]
    assert from_arrow["volume"].to_pylist() == exact
    assert csv.headers["content-type"].startswith("text/csv")


def test_several_symbols_come_with_one_cursor(client: httpx.Client) -> None:
    query = {**DAY, "symbols": "TEST,COIN:TESTUSD"}
    whole = client.get("/v1/bars", params=query).json()
    pages: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/v1/bars", params={**query, "limit": 2, **cursor}).json()
        assert len(page["bars"]) <= 2
        pages += page["bars"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert pages == whole["bars"]
    expected = sorted(hand_bars(Interval.FIVE_MINUTES), key=lambda k: (k[0] != "TEST", k[1]))
    assert [(row["symbol"], start_of(row)) for row in pages] == expected


def test_trades_are_those_of_silver(client: httpx.Client, finalized: Pipeline) -> None:
    silver = sorted(
        (row for row in finalized.rows("trades_silver") if row["symbol"] == "TEST"),
        key=lambda row: (row["event_time"], row["trade_id"]),
    )
    found: list[dict[str, object]] = []
    query = {**DAY, "limit": "3"}
    while True:
        page = client.get("/v1/trades/TEST", params=query).json()
        found += page["trades"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert [row["trade_id"] for row in found] == [str(row["trade_id"]) for row in silver]
    assert [(row["price"], row["volume"], row["conditions"]) for row in found] == [
        (row["price"], row["volume"], row["conditions"]) for row in silver
    ]
    assert len(found) > 3
    arrow = client.get("/v1/trades/TEST", params=DAY, headers={"Accept": ARROW})
    ids = pa.ipc.open_stream(arrow.content).read_all()["trade_id"].to_pylist()
    assert ids == [row["trade_id"] for row in silver]


def test_final_bars_may_be_kept_and_are_not_sent_twice(client: httpx.Client) -> None:
    first = client.get("/v1/bars/TEST", params=DAY)
    headers = {"If-None-Match": first.headers["etag"]}
    again = client.get("/v1/bars/TEST", params=DAY, headers=headers)

    assert first.headers["cache-control"] == "public, max-age=3600"
    assert (again.status_code, again.content) == (304, b"")
    open_end = client.get("/v1/bars/TEST", params={"start": DAY["start"]})
    assert len(open_end.json()["bars"]) == 4
    assert open_end.headers["cache-control"] == "no-cache"  # a new one may follow


def test_the_wrong_name_is_not_found_and_a_quiet_time_is_empty(client: httpx.Client) -> None:
    quiet = {"start": "2024-03-20", "end": "2024-03-21"}
    for path in ("/v1/bars", "/v1/trades"):
        wrong = client.get(f"{path}/NOBODY", params=DAY)
        assert (wrong.status_code, wrong.headers["content-type"]) == (404, PROBLEM)
        assert client.get(f"{path}/TEST", params=quiet).status_code == 200
    assert client.get("/v1/bars/TEST", params=quiet).json()["bars"] == []


def test_status_says_how_far_the_pipeline_is(client: httpx.Client, finalized: Pipeline) -> None:
    status = wait_for(lambda: _known_status(client))

    assert status["counts"]["messages"] == len(finalized.rows("trades_bronze")) == 17
    assert status["counts"]["symbols"] == 2
    assert (status["lag_messages"], status["feed"]["state"]) == (0, "ended")
    assert status["keyspace"] == finalized.name
    newest = max(row["event_time"] for row in finalized.rows("trades_silver"))
    assert start_of({"window_start": status["newest_trade_time"]}) == newest.replace(
        tzinfo=timezone.utc
    )
    assert 0 <= status["freshness_s"] < TIMEOUT_S  # of its receipt, not of the day of the tape


def _known_status(client: httpx.Client) -> dict[str, Any] | None:
    status: dict[str, Any] = client.get("/v1/status").json()
    return None if status["feed"]["state"] == "unknown" else status


def test_requests_are_counted_by_route_and_status(client: httpx.Client) -> None:
    client.get("/v1/bars/TEST", params=DAY)
    client.get("/v1/bars/OTHER", params=DAY)
    client.get("/nothing")

    page = client.get("/metrics").text.splitlines()
    name = "tapeline_api_requests_total"
    assert f'{name}{{route="/v1/bars/{{symbol}}",status="200"}} 1.0' in page
    assert f'{name}{{route="/v1/bars/{{symbol}}",status="404"}} 1.0' in page
    assert f'{name}{{route="none",status="404"}} 1.0' in page


def test_gaps_between_bars_are_filled_flat_on_request(client: httpx.Client) -> None:
    """TEST has bars at 14:30, 14:35 (without prices), 14:40 and 16:30."""
    rows = client.get("/v1/bars/TEST", params={**DAY, "fill": "flat"}).json()["bars"]

    filled = [row for row in rows if row["is_filled"]]
    assert len(rows) == 25  # 14:30 to 16:30
    assert len(filled) == 21
    real = {row["window_start"]: row for row in rows if not row["is_filled"]}
    close = real["2024-03-15T14:40:00Z"]["close"]
    assert {row["open"] for row in filled} == {row["close"] for row in filled} == {close}
    assert {(row["volume"], row["trade_count"]) for row in filled} == {(0.0, 0)}
    # The tape has ended, so every window of it is past; and no bar of these is stored.
    assert {(row["is_final"], row["revision"], row["is_complete"]) for row in filled} == {
        (True, 0, None)
    }


def test_one_session_can_be_asked_for(pipeline: Pipeline) -> None:
    """A bar each five minutes from 13:30 to 14:55 UTC; New York opens at 14:30 in November."""
    opening = datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)
    bars = [
        a_bar(
            window_start=opening + timedelta(minutes=5 * n),
            session="pre" if n < 0 else "regular",
            open=float(100 + n),
        )
        for n in range(-12, 6)
    ]
    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(bar, 10) for bar in bars])
    day = {"start": "2026-11-20", "end": "2026-11-21"}

    with serving(create_app(pipeline.settings)) as client:

        def rows(interval: str, **query: str) -> list[dict[str, Any]]:
            found = client.get("/v1/bars/AAPL", params={**day, "interval": interval, **query})
            return list(found.json()["bars"])

        assert len(rows("5m")) == 18
        regular = rows("5m", session="regular", limit="4")
        assert [row["open"] for row in regular] == [100.0, 101.0, 102.0, 103.0]
        # 14:00 to 15:00 without the half hour before the opening.
        (hour,) = rows("1h", session="regular")
        assert (hour["window_start"], hour["open"]) == ("2026-11-20T14:00:00Z", 100.0)
        assert (hour["session"], hour["trade_count"]) == ("regular", 6 * 4)
        assert [row["open"] for row in rows("1h", session="pre")] == [88.0, 94.0]
        (whole,) = rows("1d", session="regular")
        assert whole == rows("1d")[0]
        assert whole["session"] == "regular"
        several = client.get(
            "/v1/bars",
            params={**day, "symbols": "AAPL", "interval": "30m", "session": "pre"},
        )
        assert [row["open"] for row in several.json()["bars"]] == [88.0, 94.0]
    table = read_bars(
        "AAPL",
        "1h",
        datetime(2026, 11, 20, tzinfo=timezone.utc),
        datetime(2026, 11, 21, tzinfo=timezone.utc),
        keyspace=pipeline.name,
        session="regular",
        settings=pipeline.settings,
    )
    assert table["open"].to_pylist() == [100.0]


def test_symbols_gaps_and_health(client: httpx.Client) -> None:
    known = {"symbols": ["COIN:TESTUSD", "TEST"], "may_change": False}
    assert client.get("/v1/symbols").json() == known
    assert client.get("/v1/gaps").json() == {"gaps": [], "is_cut": False}
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert is_healthy("api", str(client.base_url).rstrip("/"))
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
        ("/v1/bars/A", {"cursor": "abc"}, "cursor"),
        ("/v1/bars/A", {"start": "0001-01-01T00:00:00+14:00"}, "start"),
        ("/v1/bars/A", {"end": "9999-12-31T23:59:59-14:00"}, "end"),
        ("/v1/bars/A", {"end": "2026-02-30"}, "end"),
        ("/v1/bars/A", {"limit": "99999999999999999999"}, "limit"),
        ("/v1/bars/A%00B", {}, "symbol"),
        (f"/v1/bars/{'A' * 129}", {}, "symbol"),
        ("/v1/bars/latest", {"symbols": ","}, "symbols"),
        ("/v1/bars", {"symbols": "A,\0"}, "symbols"),
        ("/v1/bars", {}, "symbols"),
        ("/v1/bars", {"symbols": "A", "cursor": "WyJCIiwxXQ"}, "cursor"),
        ("/v1/trades/A", {"cursor": "WzEsOTIyMzM3MjAzNjg1NDc3NTgwOF0"}, "cursor"),
        ("/v1/trades/A", {"start": "2026-01-02", "end": "2026-01-01"}, "start"),
        ("/v1/gaps", {"start": "now"}, "start"),
        ("/v1/stream", {"symbols": "A", "interval": "7m"}, "interval"),
        ("/v1/stream", {"symbols": "A", "interval": "5m,"}, "interval"),
        ("/v1/stream", {"symbols": "A", "channels": "quotes"}, "channels"),
    ],
)
def test_a_wrong_question_is_a_problem_that_names_the_field(
    alone: httpx.Client, path: str, query: dict[str, str], name: str
) -> None:
    answer = alone.get(path, params=query)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["detail"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/html", 406), ("", 406), ("*/*;q=0", 406), ("text/*", 200), ("a/b;q=x, */*", 200)],
)
def test_what_cannot_be_made_is_not_acceptable(
    client: httpx.Client, accept: str, status: int
) -> None:
    assert client.get("/v1/bars/TEST", headers={"Accept": accept}).status_code == status


def test_another_method_is_a_problem_that_names_those_allowed(alone: httpx.Client) -> None:
    answer = alone.post("/v1/symbols")

    assert (answer.status_code, answer.headers["content-type"]) == (405, PROBLEM)
    assert answer.headers["allow"] == "GET"


def test_without_a_database_it_lives_and_says_what_is_missing(alone: httpx.Client) -> None:
    answer = alone.get("/v1/symbols")

    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert "Cassandra does not answer at 127.0.0.1:9" in answer.json()["detail"]
    assert alone.get("/health/live").status_code == 200
    assert alone.get("/health/ready").status_code == 503
    assert not is_healthy("api", str(alone.base_url).rstrip("/"))


@pytest.mark.parametrize("how", ["another read has no host", "the api ends"])
def test_a_read_that_is_under_way_has_its_answer_before_the_connection_is_closed(
    finalized: Pipeline, how: str
) -> None:
    """The driver answers nothing any more once it is closed, and whoever waits would for ever."""
    begun, goes_on = threading.Event(), threading.Event()

    def slow(client: CassandraClient) -> int:
        begun.set()
        assert goes_on.wait(300)
        return len(list(client.rows("SELECT * FROM {keyspace}.trades_silver")))

    def without_host(_: CassandraClient) -> None:
        message = "none is there"
        raise NoHostAvailable(message, {})

    async def reads() -> int:
        store = Store(finalized.settings, Metrics(API_METRICS))
        reading = asyncio.create_task(store.read(slow))
        await asyncio.to_thread(begun.wait, 30)
        if how == "the api ends":
            store.close()
        else:
            with pytest.raises(Problem, match="Cassandra cannot answer now"):
                await store.read(without_host)
            assert await store.read(lambda client: client.symbols())  # by another connection
        goes_on.set()
        found = await reading
        store.close()
        return found

    assert asyncio.run(reads()) == len(finalized.rows("trades_silver"))
