"""Look at everything once, with reads whose number does not grow with the data's age."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import psutil
from confluent_kafka import KafkaException

from tapeline.finalize.horizon import horizon, newest_receipt, unread_messages
from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local import cassandra, kafka
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.local.keyspace import open_keyspace
from tapeline.local.state import read_state
from tapeline.model.bar import Interval
from tapeline.model.errors import SchemaError, TapelineError
from tapeline.model.times import floor_to
from tapeline.program.settings import Settings
from tapeline.status.bar_counts import BarCounts, count_bars
from tapeline.status.flow import Flow, flow_of, without_lost
from tapeline.status.health import WAITS_FOR, Disk, Health, Service, is_overdue
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState

_MOST_BUCKETS: Final = 50
"""Buckets of window_state looked at in a Kafka partition: a million messages."""
_MB: Final = 2**20


def check_health(settings: Settings, now: datetime) -> Health:
    """Return the state of services, feed, stream and bars."""
    endpoints = find_endpoints(settings)
    troubles: dict[str, str] = {}
    missing: list[str] = []
    flow, bars = None, None
    topic_id = _topic_id(settings, endpoints, troubles, missing)
    try:
        client = open_keyspace(settings, endpoints, needs_tables=False)
    except TapelineError as error:
        troubles[cassandra.NAME] = str(error)
    else:
        with client:
            try:
                client.require_schema()
                bars = _count_bars_of_today(client, now)
                if topic_id is not None:
                    flow = _check_flow(client, settings, endpoints, topic_id, now)
            except SchemaError as error:
                missing.append(str(error))
            except KafkaException as error:
                troubles[kafka.NAME] = f"Kafka answers with an error: {error}."
    home = Home(settings.home)
    return Health(
        now,
        settings.cassandra.keyspace,
        settings.kafka.topic,
        tuple(_services(endpoints, home, troubles)),
        flow,
        bars,
        _disk(home),
        tuple(missing),
    )


def _topic_id(
    settings: Settings, endpoints: Endpoints, troubles: dict[str, str], missing: list[str]
) -> str | None:
    try:
        admin = topic_admin(endpoints.bootstrap_servers, settings.kafka)
        return topic_id_of(admin, settings.kafka.topic)
    except SchemaError as error:
        missing.append(str(error))
    except TapelineError as error:
        troubles[kafka.NAME] = str(error)
    except KafkaException as error:
        troubles[kafka.NAME] = f"Kafka answers with an error: {error}."
    return None


def _services(endpoints: Endpoints, home: Home, troubles: Mapping[str, str]) -> Iterator[Service]:
    local = {s.name: s for s in read_state(home).services}
    address = f"{endpoints.cassandra_host}:{endpoints.cassandra_port}"
    for name, where, found in (
        (kafka.NAME, endpoints.bootstrap_servers, endpoints.kafka_from),
        (cassandra.NAME, address, endpoints.cassandra_from),
    ):
        service = local.get(name)
        process = None if service is None else service.process()
        memory_mb = None if process is None else _memory_mb(process)
        pid = None if process is None else process.pid
        yield Service(name, where, found, troubles.get(name), pid, memory_mb)


def _memory_mb(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss) // _MB
    except psutil.Error:
        return None


def _check_flow(
    client: CassandraClient,
    settings: Settings,
    endpoints: Endpoints,
    topic_id: str,
    now: datetime,
) -> Flow:
    view = FeedView(endpoints.bootstrap_servers, settings.kafka, topic_id)
    try:
        feed = view.snapshot(now)
        old = replace(feed, end_offsets=view.offsets_at(now - WAITS_FOR))
    finally:
        view.close()
    progress = client.progress(topic_id)
    states = [s for p in progress.values() for s in _open_windows(client, topic_id, p)]
    return replace(
        flow_of(feed, progress, now),
        stuck=sum(unread_messages(progress, old).values()),
        open_windows=len({(s.symbol, s.window_start) for s in states}),
        overdue=_count_overdue(states, settings, progress, without_lost(feed, now), now),
    )


def _open_windows(
    client: CassandraClient, topic_id: str, p: PartitionProgress
) -> Iterator[WindowState]:
    head = p.committed_offset // WINDOW_BUCKET_OFFSETS
    first = max(p.finalized_bucket, head - _MOST_BUCKETS + 1)
    states = client.window_states(topic_id, p.kafka_partition, range(first, head + 1))
    return (s for s in states if s.is_open)


def _count_overdue(
    states: Sequence[WindowState],
    settings: Settings,
    progress: Mapping[int, PartitionProgress],
    feed: FeedSnapshot,
    now: datetime,
) -> int:
    """Count the five-minute windows that a running stream would have finalized by now."""
    due = [s for s in states if s.affected_offset > s.finalized_offset]
    reach = horizon(progress, feed, now, timedelta(seconds=settings.stream.watermark_s))
    if reach.everything:
        # A tape that has ended is finalized at once, whatever the times of its trades.
        received = newest_receipt(progress)
        return len(due) if received is not None and is_overdue(received, now, now) else 0
    length = Interval.FIVE_MINUTES.duration
    return sum(is_overdue(s.window_start + length, reach.until, now) for s in due)


def _count_bars_of_today(client: CassandraClient, now: datetime) -> BarCounts:
    month = Interval.FIVE_MINUTES.period_of(now)
    found = client.gold_periods(Interval.FIVE_MINUTES)
    symbols = (symbol for symbol, period in found if period == month)
    return count_bars(client, symbols, floor_to(timedelta(days=1), now), now)


def _disk(home: Home) -> Disk:
    used = sum(_sizes(home.data))
    return Disk(str(home.disk), used // _MB, shutil.disk_usage(home.disk).free // _MB)


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of each file below a folder; services make and remove them meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield (Path(parent) / name).lstat().st_size
