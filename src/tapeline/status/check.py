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

from tapeline.finalize.horizon import (
    frontier,
    horizon,
    newest_receipt,
    newest_trade,
    unread_messages,
)
from tapeline.kafka.feed_view import LOST_AFTER, FeedSnapshot, FeedView
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local import cassandra, kafka
from tapeline.local.discovery import Endpoints, find_endpoints
from tapeline.local.home import Home
from tapeline.local.keyspace import open_keyspace
from tapeline.local.state import read_state
from tapeline.model.bar import Interval
from tapeline.model.errors import SchemaError, TapelineError
from tapeline.model.gap import ends_of_all
from tapeline.model.times import floor_to, from_micros
from tapeline.program.settings import Settings
from tapeline.status.health import (
    WAITS_FOR,
    BarCounts,
    Disk,
    Flow,
    Health,
    OpenGap,
    Producer,
    Service,
    is_overdue,
)
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
                bars = _count_bars(client, now)
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
        admin = topic_admin(endpoints.bootstrap_servers)
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
    # A stream that has listened for a while waits for no others.
    expected = tuple(p for p in feed.producers if now - p.reported_at < LOST_AFTER)
    finalizing = replace(
        feed, producers=expected, is_pending=any(p.status.pending for p in expected)
    )
    progress = client.progress(topic_id)
    states = [s for p in progress.values() for s in _open_windows(client, topic_id, p)]
    received = newest_receipt(progress)
    return Flow(
        producers=tuple(_producers(feed)),
        gaps=tuple(_open_gaps(feed)),
        messages=sum(feed.end_offsets.values()),
        unread=sum(unread_messages(progress, feed).values()),
        stuck=sum(unread_messages(progress, old).values()),
        newest_trade=newest_trade(progress),
        newest_receipt=received,
        freshness_s=None if received is None else round((now - received).total_seconds(), 1),
        frontier=frontier(progress, finalizing, now),
        open_windows=len({(s.symbol, s.window_start) for s in states}),
        overdue=_count_overdue(states, settings, progress, finalizing, now),
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


def _producers(feed: FeedSnapshot) -> Iterator[Producer]:
    for view in feed.producers:
        s = view.status
        yield Producer(
            s.producer_id,
            len(s.symbols),
            s.connected,
            view.is_gone,
            s.end_of_tape,
            s.pending,
            tuple(symbol for symbol, (_, until_us) in s.without_slot.items() if until_us is None),
            s.clock_offset_s,
        )


def _open_gaps(feed: FeedSnapshot) -> Iterator[OpenGap]:
    for gap, ended_us in ends_of_all(feed.gaps):
        if gap.kind.marks_bars and ended_us is None:
            since = from_micros(gap.started_us)
            yield OpenGap(gap.producer_id, gap.kind.value, since, len(gap.symbols))


def _count_bars(client: CassandraClient, now: datetime) -> BarCounts:
    """Count today's bars: one partition of each symbol, of this month."""
    seen = final = revised = incomplete = every = 0
    for states in client.states_of_bars(floor_to(timedelta(days=1), now)):
        seen += bool(states)
        every += len(states)
        final += sum(bool(is_final) for is_final, _, _ in states)
        revised += sum((revision or 0) > 1 for _, revision, _ in states)
        incomplete += sum(is_complete is False for _, _, is_complete in states)
    return BarCounts(seen, final, every - final, revised, incomplete)


def _disk(home: Home) -> Disk:
    root = next(p for p in (home.root, *home.root.parents) if p.exists())
    used = sum(_sizes(home.data))
    return Disk(str(root), used // _MB, shutil.disk_usage(root).free // _MB)


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of each file below a folder; services make and remove them meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield (Path(parent) / name).lstat().st_size
