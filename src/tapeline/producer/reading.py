"""One source as one producer reads it: its client, spools, gaps and pipeline, put together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from pydantic import SecretStr
from xxhash import xxh32_hexdigest

from tapeline.feeds.known import Source, feed_of
from tapeline.kafka.symbol_changes import SymbolChanges
from tapeline.model.feed_status import FeedStatus
from tapeline.producer.feed_address import url_of
from tapeline.producer.feed_client import FeedClient
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.key_lock import one_connection
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.previous_run import by_another_feed, last_reports, require_one_feed_each
from tapeline.producer.spool_folder import opened_spools
from tapeline.producer.symbol_control import SymbolControl
from tapeline.program.metrics import PRODUCER_METRICS, Metrics
from tapeline.program.settings import Settings


@dataclass(frozen=True, slots=True)
class Reading:
    """What a producer was told to read.

    `host` begins its name. `speed` is the feed's, as `TradeIdentity` takes it.
    """

    source: Source
    symbols: tuple[str, ...]
    host: str
    token: SecretStr | None = None
    speed: float | None = 1.0

    @property
    def is_tape(self) -> bool:
        """Whether times and gaps of the feed do not lie in the present."""
        return self.source is Source.REPLAY

    @property
    def name(self) -> str:
        """The producer's name: it stays after a restart and is another one for other symbols.

        What a producer covered, and its gaps, are of just these symbols, and of those that were
        added and removed since.
        """
        return f"{self.host}-{xxh32_hexdigest(','.join(sorted(self.symbols)).encode())}"


@dataclass(frozen=True, slots=True)
class OpenReading:
    """A pipeline that is ready to run, and what users change of its symbols."""

    source: str
    pipeline: ProducerPipeline
    control: SymbolControl | None
    metrics: Metrics

    async def run(self) -> None:
        """Run as the pipeline does; each line of its log says the source."""
        with structlog.contextvars.bound_contextvars(source=self.source):
            await self.pipeline.run(self.control)


@contextmanager
def opened(
    reading: Reading, settings: Settings, servers: str, topic_id: str, beside: Collection[str] = ()
) -> Iterator[OpenReading]:
    """Open what one source needs, for a while.

    Args:
        reading: what to read.
        settings: topics, spool and time-outs.
        servers: of Kafka.
        topic_id: of the trades' topic.
        beside: the names of the producers that this process runs as well.

    Raises:
        UsageError: another producer has the key or the name, or brings a symbol by another feed.
        ServiceUnavailableError: Kafka does not answer.
    """
    source, kafka = reading.source.value, settings.kafka
    origin = Origin(source, reading.name, topic_id, reading.speed)
    metrics = Metrics(PRODUCER_METRICS)
    producer = KafkaProducer(servers, kafka.topic, kafka)
    symbols, control, gaps = reading.symbols, None, None
    with ExitStack() as stack:
        if not reading.is_tape:
            changes = stack.enter_context(closing(SymbolChanges(servers, kafka, source)))
            changes.read_all()
            elsewhere = partial(_elsewhere, servers, settings, origin)
            control = SymbolControl(symbols, changes, elsewhere)
            symbols = control.wanted()[: feed_of(source).most_symbols]
        client = stack.enter_context(_client(settings, reading, symbols, metrics))
        spools = stack.enter_context(
            opened_spools(settings, reading.name, beside, is_tape=reading.is_tape)
        )
        if not reading.is_tape:
            views, missed = last_reports(servers, kafka, topic_id)
            require_one_feed_each(views, source, symbols)
            reported = {name: view.status for name, view in views.items()}
            if reading.name in reported:
                _go_on(client, reported[reading.name])
            durable_us = spools.last_receipt_us(reading.name)
            gaps = gap_reporter(settings, origin, symbols, reported, durable_us, missed)
        pipeline = ProducerPipeline(settings, origin, client, producer, spools, gaps, metrics)
        yield OpenReading(source, pipeline, control, metrics)


@contextmanager
def _client(
    settings: Settings, reading: Reading, symbols: Sequence[str], metrics: Metrics
) -> Iterator[FeedClient]:
    """Have the feed's client, and with a key the right to be the only one with it."""
    feed, token = feed_of(reading.source.value), reading.token
    if token is None or feed.venue:
        url = url_of(feed, settings)
        yield FeedClient(feed, url, settings.finnhub, symbols, metrics=metrics)
        return
    with one_connection(settings.home, settings.finnhub.url, token):
        yield FinnhubClient(settings.finnhub, token, symbols, metrics=metrics)


def _elsewhere(
    servers: str, settings: Settings, origin: Origin, symbols: Collection[str]
) -> Collection[str]:
    """Return those symbols that come by another feed already."""
    views = last_reports(servers, settings.kafka, origin.topic_id).views
    return by_another_feed(views.values(), origin.source, symbols)


def _go_on(client: FeedClient, before: FeedStatus) -> None:
    """Let a client know what its previous run received, and what not."""
    client.slots.goes_on_from(before.removed, before.without_slot)
    if before.last_message_us is not None:
        gone_us = before.last_message_us - before.late_us
        client.slots.changed(before.subscribed, client.symbols, gone_us)
