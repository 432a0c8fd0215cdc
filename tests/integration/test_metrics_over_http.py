"""The metrics of a producer and a Spark job at work, read over HTTP, with counts worked by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from websockets.asyncio.server import ServerConnection, serve

from tapeline.consumer.job import Job, JobOptions, RunningJob, SinkKind
from tapeline.consumer.spark_processor import Layer
from tapeline.kafka.topics import create_topics, delete_topic, topic_admin
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.bar import Interval
from tapeline.model.trade import Trade, encode_trade
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool_folder import Spools
from tapeline.program.metrics import PRODUCER_METRICS, STREAM_METRICS, Metrics
from tapeline.program.metrics_server import serve_metrics
from tapeline.program.settings import Settings
from tests.commands import wait_for
from tests.hand import TAPE, TRADES, hand_bars
from tests.page import read_page
from tests.pipeline import BOTH, Pipeline

WINDOW_MS = 1_710_513_000_000
COIN_MS = 1_710_514_800_000
MISSING = object()


def wire(*trades: str) -> str:
    return '{"type":"trade","data":[' + ",".join(trades) + "]}"


def wire_trade(millisecond: int, price: float = 10.0, conditions: str = '["1"]') -> str:
    t = WINDOW_MS + millisecond
    return f'{{"s":"A","p":{price},"t":{t},"v":1,"c":{conditions}}}'


# Two trades, one of them of an unknown condition; then the same frame again.
TWICE = wire(wire_trade(0), wire_trade(1, conditions='["1","99"]'))
# A good trade between two that are none.
MIXED = wire(wire_trade(2, price=-1), wire_trade(3), wire_trade(4, conditions="1"))
FIRST_CONNECTION = (TWICE, TWICE, MIXED, "no json", '{"type":"ping"}')
LAST = wire(wire_trade(5))


@pytest.fixture
def settings(pipeline: Pipeline) -> Iterator[Settings]:
    """The settings of a pipeline with a dead-letter topic of its own."""
    dead_letters = f"{pipeline.name}_dlq"
    kafka = pipeline.settings.kafka.model_copy(update={"dead_letter_topic": dead_letters})
    admin: AdminClient = topic_admin(pipeline.endpoints.bootstrap_servers)
    create_topics(admin, kafka)
    yield pipeline.settings.model_copy(update={"kafka": kafka})
    delete_topic(admin, dead_letters)


def test_a_producer_counts_what_it_did_with_the_feed(
    pipeline: Pipeline, settings: Settings
) -> None:
    metrics = Metrics(PRODUCER_METRICS)
    may_end = asyncio.Event()
    connections = 0

    async def feed(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.recv()
        if connections == 1:
            for frame in FIRST_CONNECTION:
                await socket.send(frame)
            await socket.close(1011, "a fault")
            return
        await socket.send(LAST)
        await may_end.wait()
        await socket.close(1000, "end of tape")

    async def run(url: str) -> tuple[dict[str, float], dict[str, float]]:
        async with serve(feed, LOOPBACK, 0) as server:
            port = server.sockets[0].getsockname()[1]
            finnhub = settings.finnhub.model_copy(update={"url": f"ws://{LOOPBACK}:{port}"})
            producer = ProducerPipeline(
                settings,
                Origin("finnhub", "test", pipeline.topic_id),
                FinnhubClient(finnhub, SecretStr("c9secret"), ["A"], metrics=metrics),
                KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name),
                Spools(pipeline.spool("test")),
                metrics=metrics,
            )
            work = asyncio.create_task(producer.run())
            live = await asyncio.to_thread(read_page, url)
            while live["tapeline_producer_frames_total"] < 6:
                await asyncio.sleep(0.05)
                live = await asyncio.to_thread(read_page, url)
            may_end.set()
            await work
            return live, await asyncio.to_thread(read_page, url)

    before_s = time.time()
    with serve_metrics(metrics, LOOPBACK, free_port(0)) as url:
        assert url is not None
        live, ended = asyncio.run(run(url))

    assert live["tapeline_producer_connected"] == 1
    expected = {
        "tapeline_producer_frames_total": 6,
        'tapeline_producer_trades_total{outcome="accepted"}': 6,  # 2 + 2 + 1 + 1
        'tapeline_producer_trades_total{outcome="rejected"}': 2,
        'tapeline_producer_dead_letters_total{reason="bad_price"}': 1,
        'tapeline_producer_dead_letters_total{reason="wrong_type"}': 1,
        'tapeline_producer_dead_letters_total{reason="malformed_json"}': 1,
        'tapeline_producer_dead_letters_total{reason="bad_time"}': 0,
        "tapeline_producer_suspect_duplicates_total": 0,
        "tapeline_producer_redelivered_total": 2,
        "tapeline_producer_unknown_conditions_total": 2,
        "tapeline_producer_reconnects_total": 1,
        "tapeline_producer_connected": 0,
        "tapeline_producer_pending_trades": 0,
    }
    assert {name: ended.get(name, MISSING) for name in expected} == expected
    received_s = ended["tapeline_producer_newest_receipt_timestamp_seconds"]
    assert before_s <= received_s <= time.time()


def test_a_spark_job_counts_what_it_stored_and_finalized(pipeline: Pipeline) -> None:
    metrics, began_s = Metrics(STREAM_METRICS), time.time()
    pipeline.send_tape(TAPE)
    pipeline.send_messages(
        [("TEST", b"no avro"), ("TEST", trade(1, price=-5.0)), ("TEST", trade(2, price=-5.0))]
    )
    processor = pipeline.processor(metrics=metrics)
    options = JobOptions(Job.ALL, SinkKind.CASSANDRA, "0 seconds", until_final=True)
    with (
        pipeline.finalizer() as finalizer,
        serve_metrics(metrics, LOOPBACK, free_port(0)) as url,
    ):
        assert url is not None
        job = RunningJob(processor, finalizer, metrics)
        previews = pipeline.processor()
        previews.start(frozenset({Layer.GOLD})).processAllAvailable()
        previews.stop()
        spoil_two_previews(pipeline)
        processor.start(BOTH).processAllAvailable()
        job.watch(threading.Event(), options, interval_s=0.1)
        first = read_page(url)

        # One more trade for a bar that is final: the bar and its hour are revised.
        pipeline.send_messages([("TEST", trade(3, price=9.99))])
        job.watch(threading.Event(), options, interval_s=0.1)
        processor.stop()
        then = read_page(url)

    bars_5m = len(hand_bars(Interval.FIVE_MINUTES))
    bars_1h = len(hand_bars(Interval.ONE_HOUR))
    expected = {
        "tapeline_stream_messages_total": TRADES + 3,
        'tapeline_stream_quarantined_total{reason="undecodable"}': 1,
        'tapeline_stream_quarantined_total{reason="bad_price"}': 2,
        'tapeline_stream_quarantined_total{reason="bad_time"}': 0,
        'tapeline_stream_lag_messages{partition="0"}': 0,
        'tapeline_stream_lag_messages{partition="1"}': 0,
        'tapeline_finalize_bars_total{interval="5m"}': bars_5m,
        'tapeline_finalize_bars_total{interval="1h"}': bars_1h,
        "tapeline_finalize_revised_total": 0,
        "tapeline_finalize_differs_total": 1,
        "tapeline_finalize_stream_incomplete_total": 1,
    }
    assert {name: first.get(name, MISSING) for name in expected} == expected
    assert first['tapeline_stream_batch_duration_seconds_count{query="ingest"}'] >= 1
    assert first['tapeline_stream_batch_duration_seconds_sum{query="ingest"}'] > 0
    assert first["tapeline_finalize_round_duration_seconds_count"] >= 1
    assert 0 < first["tapeline_stream_freshness_seconds"] < time.time() - began_s
    # The symbols lie in two partitions; COIN:TESTUSD has its newest trade at 15:00, TEST later.
    assert first["tapeline_finalize_frontier_timestamp_seconds"] == COIN_MS / 1000
    changed = {
        "tapeline_stream_messages_total": TRADES + 4,
        'tapeline_finalize_bars_total{interval="5m"}': bars_5m + 1,
        'tapeline_finalize_bars_total{interval="1h"}': bars_1h + 1,
        "tapeline_finalize_revised_total": 2,
        "tapeline_finalize_differs_total": 1,
    }
    assert {name: then[name] for name in changed} == changed


LAG = 'tapeline_stream_lag_messages{{partition="{}"}}'


def test_lag_is_what_silver_does_not_have_yet(pipeline: Pipeline) -> None:
    metrics = Metrics(STREAM_METRICS)
    pipeline.send_messages([("TEST", trade(n)) for n in range(5)], partition=1)
    stop = threading.Event()
    options = JobOptions(Job.FINALIZE, SinkKind.CASSANDRA, "0 seconds", until_final=False)
    with (
        pipeline.finalizer() as finalizer,
        serve_metrics(metrics, LOOPBACK, free_port(0)) as url,
    ):
        assert url is not None

        def stop_when_known() -> None:
            try:
                wait_for(lambda: read_page(url).get(LAG.format(1)) == 5)
            finally:
                stop.set()

        threading.Thread(target=stop_when_known).start()
        RunningJob(pipeline.processor(metrics=metrics), finalizer, metrics).watch(
            stop, options, 0.2
        )
        page = read_page(url)

    assert [page[LAG.format(partition)] for partition in (0, 1)] == [0, 5]
    # Nothing is in silver, so nothing is known of it.
    for name in ("stream_freshness_seconds", "finalize_frontier_timestamp_seconds"):
        assert str(page[f"tapeline_{name}"]) == "nan"


def trade(trade_id: int, price: float = 10.0) -> bytes:
    received_us = time.time_ns() // 1000
    return encode_trade(
        Trade("TEST", price, 1.0, WINDOW_MS, None, trade_id, received_us, 0, "replay")
    )


def spoil_two_previews(pipeline: Pipeline) -> None:
    """Give one preview a wrong high, and let another lack a trade."""
    # Newer than the preview's write time, older than any finalized one's.
    statement = (
        "UPDATE trades_gold_5m USING TIMESTAMP %s SET {} WHERE symbol = %s "
        "AND period = '2024-03-01' AND window_start = %s"
    )
    for symbol, start_ms, change in (
        ("TEST", WINDOW_MS, "high = 999.0"),
        ("COIN:TESTUSD", COIN_MS, "trade_count = 1"),
    ):
        start = datetime.fromtimestamp(start_ms / 1000, timezone.utc)
        pipeline.session.execute(statement.format(change), (start_ms * 1000 + 1000, symbol, start))
