"""A topic with bad messages in it, a few or nothing else, on the real parts."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timezone

import pytest
from pyspark.errors import StreamingQueryException

from tapeline.consumer.job import Job, JobOptions, RunningJob, SinkKind
from tapeline.model.errors import PoisonError
from tapeline.model.trade import Trade, encode_trade
from tapeline.program.metrics import STREAM_METRICS, Metrics
from tests.pipeline import Pipeline

WINDOW_MS = 1_710_513_000_000
OPTIONS = JobOptions(Job.ALL, SinkKind.CASSANDRA, "0 seconds", until_final=False)
NOW_US = int(datetime.now(timezone.utc).timestamp() * 1e6)


def good(count: int) -> list[tuple[str, bytes | None]]:
    return [
        ("TEST", encode_trade(Trade("TEST", 10.0, 1.0, WINDOW_MS + n, None, n, NOW_US, 0, "x")))
        for n in range(count)
    ]


def test_one_bad_message_in_a_thousand_is_quarantined_and_the_stream_goes_on(
    pipeline: Pipeline,
) -> None:
    messages = good(5_000)
    messages[::1_000] = [("TEST", b"junk")] * 5
    pipeline.send_messages(messages)
    pipeline.ingest()

    rows = pipeline.rows("trades_quarantine")
    assert Counter(row["reason"] for row in rows) == {"undecodable": 5}
    assert len(pipeline.rows("trades_silver")) == 4_995


def test_a_topic_of_nothing_but_bad_messages_stops_the_job_with_one_sentence(
    pipeline: Pipeline,
) -> None:
    pipeline.send_messages([*good(10), *[("TEST", b"junk")] * 1_500])

    for _ in range(2):  # the second start says the same
        metrics = Metrics(STREAM_METRICS)
        processor = pipeline.processor(metrics=metrics)
        query = processor.start()
        with pytest.raises(StreamingQueryException):
            query.processAllAvailable()
        with pytest.raises(PoisonError, match=r"1,500 of the newest 1,510 .*undecodable 1,500"):
            RunningJob(processor, None, metrics).watch(threading.Event(), OPTIONS, interval_s=0.1)
        processor.stop()

        assert len(pipeline.rows("trades_quarantine")) == 1_500
        assert len(pipeline.rows("trades_silver")) == 10
        assert len(pipeline.rows("trades_bronze")) == 1_510

    stream = pipeline.settings.stream.model_copy(update={"poison_share": 1.0})
    pipeline.settings = pipeline.settings.model_copy(update={"stream": stream})
    pipeline.send_messages(good(20)[10:])
    pipeline.ingest(frozenset(OPTIONS.job.layers))

    assert len(pipeline.rows("trades_silver")) == 20
