"""The alerts of the stream, beside a real query and a real finalizer, in a real Prometheus."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tapeline.consumer.job import Job, JobOptions, RunningJob, SinkKind
from tapeline.local.home import Home
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.local.state import CASSANDRA, read_state
from tapeline.model.bar import Interval
from tapeline.model.times import floor_to, to_micros
from tapeline.model.trade import Trade, encode_trade
from tapeline.program.metrics import STREAM_METRICS, Metrics
from tapeline.program.metrics_server import serve_metrics
from tests.alert_rules import is_of_the_stream, queries
from tests.commands import TIMEOUT_S, wait_for
from tests.page import read_page
from tests.pipeline import BOTH, Pipeline
from tests.prometheus import RunningPrometheus, answers, prometheus

BACKLOG = 300_000
"""Three micro-batches: two wait while the first runs, and more than 100,000 is what fires."""


@contextmanager
def streaming(pipeline: Pipeline, folder: Path) -> Iterator[tuple[RunningPrometheus, str]]:
    """Run a real query and a real finalizer in this process, watched; yields their metrics too."""
    metrics, stop = Metrics(STREAM_METRICS), threading.Event()
    options = JobOptions(Job.ALL, SinkKind.CASSANDRA, "1 second", until_final=False)
    processor = pipeline.processor(metrics=metrics)
    with (
        pipeline.finalizer() as finalizer,
        serve_metrics(metrics, LOOPBACK, free_port(0)) as url,
    ):
        assert url is not None
        processor.start(BOTH)
        job = RunningJob(processor, finalizer, metrics)
        watch = threading.Thread(target=job.watch, args=(stop, options, 1.0))
        watch.start()
        try:
            with prometheus(folder / "prometheus", {"stream": url}) as watching:
                watching.wait_until_all_are_up(1)
                yield watching, url
        finally:
            stop.set()
            watch.join(TIMEOUT_S)
            processor.stop()


def test_bad_messages_in_kafka_fire_and_the_streams_metrics_can_be_drawn(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    with streaming(pipeline, tmp_path) as (watching, url):
        pipeline.send_messages([("TEST", trade(1))])
        wait_for(lambda: read_page(url)["tapeline_stream_messages_total"] == 1)
        wait_for(lambda: watching.firing() == set())
        pipeline.send_messages([("TEST", b"no avro")])
        watching.wait_until_fires("TapelineQuarantined of stream")
        watching.wait_until_over("TapelineQuarantined of stream")
        for query in filter(is_of_the_stream, queries()):
            wait_for(partial(answers, watching, query))

        pipeline.send_messages([("TEST", trade(n)) for n in range(1000)])
        pipeline.send_messages([("TEST", b"no avro")] * 200)
        watching.wait_until_fires("TapelinePoisonShare of stream")
        pipeline.send_messages([("TEST", trade(n)) for n in range(1000, 3000)])
        watching.wait_until_over("TapelinePoisonShare of stream")


def test_a_backlog_fires_and_so_does_a_cassandra_that_stands_still(
    pipeline: Pipeline, home: Home, tmp_path: Path
) -> None:
    cassandra = next(service for service in read_state(home).services if service.name == CASSANDRA)
    with streaming(pipeline, tmp_path) as (watching, url):
        for first in range(0, BACKLOG, 50_000):
            pipeline.send_messages([("TEST", trade(first + n)) for n in range(50_000)])
        watching.wait_until_fires("TapelineStreamStuck of stream")
        watching.wait_until_fires("TapelineStreamBehind of stream")
        wait_for(lambda: read_page(url)["tapeline_stream_messages_total"] == BACKLOG)
        watching.wait_until_over("TapelineStreamBehind of stream")
        watching.wait_until_over("TapelineStreamStuck of stream")

        os.kill(cassandra.pid, signal.SIGSTOP)
        try:
            watching.wait_until_fires("TapelineNotFinalizing of tapeline")
        finally:
            os.kill(cassandra.pid, signal.SIGCONT)
        watching.wait_until_over("TapelineNotFinalizing of tapeline")


def test_a_preview_that_is_not_what_its_trades_make_fires(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    window = floor_to(Interval.FIVE_MINUTES.duration, pipeline.now - timedelta(minutes=20))
    period = Interval.FIVE_MINUTES.period_of(window)
    pipeline.send_messages(
        [("TEST", trade(1, window, price=10.0)), ("TEST", trade(2, window, price=12.0))]
    )
    pipeline.preview()
    # Newer than the preview, whose write time is the window's start and its count of trades.
    pipeline.session.execute(
        "UPDATE trades_gold_5m USING TIMESTAMP %s SET high = 99.0 "
        "WHERE symbol = 'TEST' AND period = %s AND window_start = %s",
        (to_micros(window) + 3, period, window),
    )
    provisional = pipeline.bars()["TEST", window]
    assert (provisional.is_final, provisional.trade_count, provisional.high) == (False, 2, 99.0)

    with streaming(pipeline, tmp_path) as (watching, url):
        wait_for(lambda: read_page(url)["tapeline_stream_messages_total"] == 2)
        assert "TapelinePreviewDiffers of stream" not in watching.ever_fired()
        pipeline.send_messages([("TEST", trade(3))])
        watching.wait_until_fires("TapelinePreviewDiffers of stream")
        assert read_page(url)["tapeline_finalize_differs_total"] == 1

    final = pipeline.bars()["TEST", window]
    assert (final.is_final, final.trade_count, final.high) == (True, 2, 12.0)


def trade(trade_id: int, at: datetime | None = None, price: float = 10.0) -> bytes:
    """Return a trade of TEST at a time, of now without one."""
    now_us = time.time_ns() // 1000
    event_ms = (now_us if at is None else to_micros(at)) // 1000
    return encode_trade(Trade("TEST", price, 1.0, event_ms, None, trade_id, now_us, 0, "finnhub"))
