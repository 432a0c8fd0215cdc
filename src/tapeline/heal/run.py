"""One run of healing from beginning to end: connect, find what is wanted, heal, report."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

import typer
from rich.progress import Progress

from tapeline.feeds.feed import Feed
from tapeline.feeds.known import PUBLIC, Source, feed_of
from tapeline.heal.job import Healing, Span, SymbolResult, report
from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.kafka.topics import topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.local.keyspace import open_keyspace
from tapeline.model.errors import ExpiredError, SchemaError, UsageError
from tapeline.model.gap import Gap, ends_of_all, overlapping
from tapeline.model.texts import counted
from tapeline.model.times import EPOCH, to_micros
from tapeline.producer.feed_address import history_url_of
from tapeline.producer.history import HistoryClient
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.program.settings import Settings

_EXPIRES_WITHIN: Final = timedelta(hours=1)
_AHEAD: Final = timedelta(minutes=1)
"""How far an exchange's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to heal: a time, and of one feed or all its symbols that are named or have a gap."""

    start: datetime
    end: datetime | None
    feed: Feed | None
    symbols: Collection[str] = ()


def numbered_feed(source: str) -> Feed:
    """Return the feed of a name.

    Raises:
        UsageError: there is none, or nothing tells what it has missed.
    """
    if source in PUBLIC:
        return PUBLIC[source]
    known = ", ".join(PUBLIC)
    if source not in {other.value for other in Source}:
        message = f"There is no feed {source!r}: choose one of {known}."
        raise UsageError(message)
    message = (
        f"The trades of {source} have no numbers, so nothing tells which are missing, and there is "
        f"no history to ask for them by number: what was missed stays a gap. {known} have both. Of "
        "other feeds run two producers on two hosts, so that one has what the other misses."
    )
    raise UsageError(message)


def run_heal(settings: Settings, wanted: Wanted, progress: Progress) -> list[SymbolResult]:
    """Heal what is wanted, and return what became of each symbol.

    Raises:
        UsageError: a symbol is not known, or a feed's history is switched off.
        SchemaError: the keyspace has nothing of the topic.
        ExpiredError: silver has begun to lose the trades of that time.
        ServiceUnavailableError: Kafka or Cassandra does not answer.
        DeliveryError: Kafka refuses a trade or a report.
    """
    if wanted.feed is not None:
        _history_url(wanted.feed, settings)
    endpoints = find_endpoints(settings)
    servers = endpoints.bootstrap_servers
    typer.echo(f"Using {endpoints}", err=True)
    span = _span(settings, wanted)
    topic_id = topic_id_of(topic_admin(servers, settings.kafka), settings.kafka.topic)
    producer = KafkaProducer(servers, settings.kafka.topic, settings.kafka)
    with (
        open_keyspace(settings, endpoints) as client,
        closing(FeedView(servers, settings.kafka, topic_id)) as view,
    ):
        if not client.progress(topic_id):
            message = (
                f"Keyspace {settings.cassandra.keyspace} holds nothing of topic "
                f"{settings.kafka.topic}: name both, or start `tapeline stream`."
            )
            raise SchemaError(message)
        client.require_symbols(wanted.symbols)

        async def work() -> list[SymbolResult]:
            by_feed = gaps_by_feed(view.snapshot(span.now), wanted, span)
            urls = {name: _history_url(PUBLIC[name], settings) for name in by_feed}
            results = []
            for name, gaps in by_feed.items():
                history = HistoryClient(PUBLIC[name], urls[name])
                healing = Healing(PUBLIC[name], history, client, producer, progress)
                results += [await healing.heal(symbol, gaps[symbol], span) for symbol in gaps]
            ends = {p: end - 1 for p, (first, end) in view.offsets().items() if end > first}
            await report(producer, settings.kafka.gaps_topic, results, ends)
            return results

        return asyncio.run(work())


def _span(settings: Settings, wanted: Wanted) -> Span:
    now = datetime.now(timezone.utc)
    lifetime = timedelta(seconds=settings.cassandra.silver_ttl_s)
    oldest = now - lifetime + _EXPIRES_WITHIN if lifetime else EPOCH
    end = min(wanted.end or now, now)
    if end <= oldest:
        message = (
            f"Silver keeps trades for {counted(lifetime.days, 'day')} and has begun to lose those "
            "of that time, so its bars cannot be made again."
        )
        raise ExpiredError(message)
    return Span(min(wanted.start, end), end, oldest, now + _AHEAD)


def _history_url(feed: Feed, settings: Settings) -> str:
    url = history_url_of(feed, settings)
    if url is None:
        name = f"TAPELINE_FEEDS__{feed.name.upper()}_HISTORY"
        message = f"{name} is none, which switches its history off: set it, or name another feed."
        raise UsageError(message)
    return url


def gaps_by_feed(
    snapshot: FeedSnapshot, wanted: Wanted, span: Span
) -> Mapping[str, Mapping[str, list[Gap]]]:
    """Return the gaps of each symbol that is wanted, by the name of its feed."""
    feeds = {p.status.producer_id: feed_of(p.status.source) for p in snapshot.producers}
    found: defaultdict[str, defaultdict[str, list[Gap]]] = defaultdict(lambda: defaultdict(list))
    if wanted.feed is not None and wanted.symbols:
        found[wanted.feed.name].update((symbol, []) for symbol in wanted.symbols)
    for gap in _gaps_within(snapshot.gaps, span):
        feed = feeds.get(gap.producer_id)
        if feed is None or not feed.has_ids or wanted.feed not in {None, feed}:
            continue
        for symbol in gap.symbols:
            if not wanted.symbols or symbol in wanted.symbols:
                found[feed.name][symbol].append(gap)
    return found


def _gaps_within(gaps: Iterable[Gap], span: Span) -> Iterator[Gap]:
    """Return the gaps that mark bars of a time, the oldest first.

    Each has its end, also one that a producer never told.
    """
    ends = ends_of_all(gap for gap in gaps if gap.kind.marks_bars)
    oldest_first = sorted(ends, key=lambda end: end[0].started_us)
    return overlapping(oldest_first, to_micros(span.start), to_micros(span.end))
