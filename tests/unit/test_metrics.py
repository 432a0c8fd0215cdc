"""The list of metrics, and what a process exports of it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time

import psutil
import pytest
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from tapeline.program import metrics as module
from tapeline.program.metrics import (
    API_METRICS,
    BATCH_DURATION,
    CONNECTED,
    DEAD_LETTERS,
    FRAMES,
    LAG,
    MEMORY,
    MESSAGES,
    PROCESS_METRICS,
    PRODUCER_METRICS,
    STARTED,
    STREAM_METRICS,
    TRADES,
    Metric,
    Metrics,
)
from tests.page import types_on

LISTS = pytest.mark.parametrize("listed", [PRODUCER_METRICS, STREAM_METRICS, API_METRICS])
EVERY = [*PRODUCER_METRICS, *STREAM_METRICS, *API_METRICS, *PROCESS_METRICS]
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def page_of(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


@LISTS
def test_what_is_exported_is_what_is_listed(listed):
    expected = {m.name: KINDS[m.kind] for m in (*listed, *PROCESS_METRICS)}
    assert types_on(page_of(Metrics(listed))) == expected


def test_every_metric_of_the_module_is_in_one_list():
    defined = [value for value in vars(module).values() if isinstance(value, Metric)]
    assert sorted(m.name for m in defined) == sorted(m.name for m in EVERY)
    assert len({m.name for m in EVERY}) == len(EVERY)


@pytest.mark.parametrize("metric", EVERY, ids=lambda m: m.name)
def test_a_name_follows_the_conventions_of_prometheus(metric):
    assert re.fullmatch(r"tapeline(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Counter)
    # Base units: seconds, never milliseconds; the unit ends the name.
    assert metric.name.endswith("_seconds") == (metric.unit in {"seconds", "Unix time"})
    assert "timestamp_seconds" not in metric.name or metric.unit == "Unix time"
    assert metric.unit
    assert metric.meaning.endswith(".")


def test_what_was_counted_can_be_asked_for_in_whole_and_by_label():
    metrics = Metrics(PRODUCER_METRICS)
    metrics[FRAMES].inc()
    metrics[TRADES].labels(outcome="accepted").inc(3)
    metrics[TRADES].labels(outcome="rejected").inc()

    assert metrics.total(FRAMES) == 1
    assert metrics.total(TRADES) == 4
    assert metrics.total(TRADES, outcome="accepted") == 3
    assert metrics.total(DEAD_LETTERS) == 0


def test_label_values_that_are_known_are_exported_at_0_from_the_start():
    page = page_of(Metrics(PRODUCER_METRICS)).splitlines()
    assert 'tapeline_producer_trades_total{outcome="accepted"} 0.0' in page
    assert 'tapeline_producer_trades_total{outcome="rejected"} 0.0' in page
    reasons = [line for line in page if line.startswith("tapeline_producer_dead_letters_total{")]
    assert 'tapeline_producer_dead_letters_total{reason="bad_price"} 0.0' in reasons
    assert len(reasons) == len(DEAD_LETTERS.labels["reason"]) > 1


def test_a_gauge_is_no_number_until_it_is_known():
    metrics = Metrics(PRODUCER_METRICS)
    assert "tapeline_producer_connected NaN" in page_of(metrics).splitlines()
    metrics[CONNECTED].set(1)
    assert "tapeline_producer_connected 1.0" in page_of(metrics).splitlines()


def test_series_appear_with_their_labels():
    metrics = Metrics(STREAM_METRICS)
    metrics[LAG].labels(partition=3).set(12)
    metrics[BATCH_DURATION].labels(query="gold").observe(0.3)
    page = page_of(metrics).splitlines()
    assert 'tapeline_stream_lag_messages{partition="3"} 12.0' in page
    name = "tapeline_stream_batch_duration_seconds"
    assert f'{name}_bucket{{le="0.25",query="gold"}} 0.0' in page
    assert f'{name}_bucket{{le="0.5",query="gold"}} 1.0' in page
    assert f'{name}_sum{{query="gold"}} 0.3' in page


def test_two_in_one_process_count_apart():
    first, second = Metrics(PRODUCER_METRICS), Metrics(PRODUCER_METRICS)
    first[FRAMES].inc(2)
    second[FRAMES].inc()
    assert "tapeline_producer_frames_total 2.0" in page_of(first).splitlines()
    assert "tapeline_producer_frames_total 1.0" in page_of(second).splitlines()


def test_each_process_says_since_when_it_counts_and_what_memory_it_and_its_children_take():
    before_s = time.time()
    metrics = Metrics(API_METRICS)
    value = metrics.registry.get_sample_value
    assert before_s <= value(STARTED.name) <= time.time()

    own = psutil.Process().memory_info().rss
    alone = value(MEMORY.name)
    assert alone >= own * 0.9
    # A child that says when it has filled 64 MB.
    code = "b = bytearray(b'1' * 2**26); print(len(b), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline()
        together = value(MEMORY.name)
        child.communicate(b"\n")
    assert 2**26 < together - alone < 2**28


def test_a_metric_of_another_process_is_not_there():
    with pytest.raises(KeyError):
        Metrics(PRODUCER_METRICS)[MESSAGES]


def test_a_label_that_is_not_listed_is_refused():
    with pytest.raises(ValueError, match="label"):
        Metrics(PRODUCER_METRICS)[TRADES].labels(symbol="AAPL")


def test_a_function_is_asked_at_each_reading():
    metrics = Metrics(PRODUCER_METRICS)
    answers = iter([1.0, math.nan])
    metrics[CONNECTED].set_function(lambda: next(answers))
    assert "tapeline_producer_connected 1.0" in page_of(metrics).splitlines()
    assert "tapeline_producer_connected NaN" in page_of(metrics).splitlines()
