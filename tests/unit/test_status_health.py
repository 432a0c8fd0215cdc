"""What counts as a problem, and what does not."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from rich.console import Console

from tapeline.cli.status import print_health
from tapeline.status.bar_counts import BarCounts
from tapeline.status.flow import Flow, OpenGap, Producer
from tapeline.status.health import Disk, Health, Service, is_overdue, problems_of

NOW = datetime(2026, 11, 20, 14, 35, 7, tzinfo=timezone.utc)
KAFKA = Service("kafka", "127.0.0.1:19092", "local stack", pid=41, memory_mb=412)
CASSANDRA = Service("cassandra", "10.0.0.7:9042", "from settings")
PRODUCER = Producer("box-1", 7, connected=True, is_gone=False, has_ended=False, pending=0)
FLOW = Flow(
    producers=(PRODUCER,),
    messages=1_200,
    newest_trade=NOW - timedelta(seconds=2),
    newest_receipt=NOW - timedelta(seconds=1),
    freshness_s=1.0,
    frontier=NOW - timedelta(seconds=3),
    open_windows=14,
)
WELL = Health(
    NOW,
    "market_data",
    "trades_raw",
    (KAFKA, CASSANDRA),
    FLOW,
    BarCounts(7, final=100, provisional=14, revised=2, incomplete=1),
    Disk("/home/me", 1_234, 56_789),
)
OLD = NOW - timedelta(seconds=61)
GAP = OpenGap("box-1", "idle", NOW - timedelta(minutes=5), 7)


def with_flow(**changes):
    return replace(WELL, flow=replace(FLOW, **changes))


def with_producer(**changes):
    return with_flow(producers=(replace(PRODUCER, **changes),))


@pytest.mark.parametrize(
    "health",
    [
        WELL,
        with_flow(newest_receipt=OLD, frontier=None),  # a quiet market
        with_flow(unread=500),  # it is being read
        with_flow(unread=1, newest_receipt=OLD),  # the first after a quiet hour
        with_producer(connected=False, has_ended=True),  # a tape
        with_producer(is_gone=True, has_ended=True),
        with_flow(gaps=(replace(GAP, producer="one-of-before"),)),
        with_flow(producers=(PRODUCER, replace(PRODUCER, name="box-2", is_gone=True))),
    ],
)
def test_all_is_well(health):
    assert problems_of(health) == []


@pytest.mark.parametrize(
    ("health", "problem"),
    [
        (with_flow(producers=()), "No producer reports: start one with `tapeline produce`."),
        (with_producer(is_gone=True), "No producer reports"),
        (with_producer(connected=False), "Producer box-1 has no connection to the feed"),
        (with_flow(gaps=(GAP,)), "hears no trades since 2026-11-20 14:30:07 UTC (idle)"),
        (with_flow(unread=700, stuck=500), "500 messages have waited in Kafka"),
        (with_flow(overdue=3), "3 windows could have been finalized a minute ago"),
        (replace(WELL, disk=Disk("/home/me", 1, 999)), "Only 999 MB are free at /home/me."),
        (replace(WELL, missing=("There is no topic x.",)), "There is no topic x."),
        (
            replace(WELL, flow=None, services=(replace(KAFKA, trouble="Kafka is down."),)),
            "Kafka is down.",
        ),
    ],
)
def test_one_problem_is_one_sentence(health, problem):
    [found] = problems_of(health)
    assert problem in found


@pytest.mark.parametrize(
    ("final_to", "expected"),
    [(None, False), (NOW, True), (NOW - timedelta(minutes=1), True), (OLD, False)],
)
def test_a_window_is_overdue_a_minute_after_it_could_be_finalized(final_to, expected):
    end = NOW - timedelta(minutes=2)
    assert is_overdue(end, final_to, NOW) is expected


def test_the_screen_fits_80_columns_and_says_what_is_wrong():
    file = io.StringIO()
    problems = ["Kafka is down."]
    print_health(WELL, problems, Console(file=file, width=80, highlight=False))
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [
        "2026-11-20 14:35:07 UTC, keyspace market_data, topic trades_raw",
        "Kafka       127.0.0.1:19092 (local stack), process 41, 412 MB",
        "Cassandra   10.0.0.7:9042 (from settings)",
        "Feed        1 of 1 producer connected, 7 symbols",
        "Open gaps   none",
        "Unread      0 of 1,200 messages are not in silver yet",
        "Newest      trade of 2026-11-20 14:35:05, received 1.0 s ago",
        "Frontier    2026-11-20 14:35:04",
        "Windows     14 not finalized",
        "Bars today  100 final, 14 provisional, of 7 symbols; 2 revised; 1 incomplete",
        "Disk        1,234 MB used, 56,789 MB free at /home/me",
        "Problem: Kafka is down.",
    ]
