"""Producers of public feeds in this process, each on an exchange of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import PUBLIC
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.feed_client import FeedClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.id_file import IdFile
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.previous_run import last_reports
from tapeline.producer.spool_folder import Spools
from tests.commands import wait_for
from tests.exchanges import Exchange, MadeTrade
from tests.live_feed import decoded, messages_of
from tests.pipeline import Pipeline


class Market(NamedTuple):
    """One symbol of one exchange, and the name of its producer."""

    exchange: Exchange
    symbol: str
    producer_id: str = "live"

    @property
    def name(self) -> str:
        (name,) = our_symbols(PUBLIC[self.exchange.dialect.name], [self.symbol])
        return name


def produce(pipeline: Pipeline, act: Callable[[], None], *markets: Market) -> None:
    """Run a producer of each market until the work beside them is done."""

    async def run() -> None:
        running = [asyncio.create_task(_producer(pipeline, market).run()) for market in markets]
        try:
            await asyncio.to_thread(act)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def wait_until_delivered(pipeline: Pipeline, market: Market, trade: MadeTrade) -> None:
    """Wait until a trade of a market is in Kafka."""

    def is_there() -> bool:
        found = map(decoded, messages_of(pipeline.endpoints.bootstrap_servers, pipeline.name))
        return (market.name, trade.trade_id) in {(t["symbol"], t["trade_id"]) for t in found}

    wait_for(is_there)


def wait_until_healed(pipeline: Pipeline, market: Market) -> None:
    """Wait until numbers of a market were skipped, and all of them reported as fetched."""

    def is_healed() -> bool:
        topic = pipeline.settings.kafka.gaps_topic
        messages = messages_of(pipeline.endpoints.bootstrap_servers, topic)
        newest = {m.key(): Gap.from_bytes(m.value()) for m in messages}
        skipped = [gap for gap in newest.values() if gap.kind is GapKind.SKIPPED]
        return any(market.name in gap.healed for gap in skipped) and not any(
            market.name in gap.symbols for gap in skipped
        )

    wait_for(is_healed)


def _producer(pipeline: Pipeline, market: Market) -> ProducerPipeline:
    exchange, name = market.exchange, market.producer_id
    feed, symbols = PUBLIC[exchange.dialect.name], (market.name,)
    urls = {f"{feed.name}_history": exchange.history_url}
    feeds = pipeline.settings.feeds.model_copy(update=urls)
    settings = pipeline.settings.model_copy(update={"feeds": feeds})
    servers = pipeline.endpoints.bootstrap_servers
    client = FeedClient(feed, exchange.url, settings.finnhub, symbols)
    origin = Origin(feed.name, name, pipeline.topic_id)
    views, missed = last_reports(servers, settings.kafka, pipeline.topic_id)
    reported = {producer: view.status for producer, view in views.items()}
    gaps = gap_reporter(settings, origin, symbols, reported, missed=missed)
    numbers = IdFile(pipeline.folder / f"{name}.numbers")
    spools = Spools(pipeline.spool(name), numbers=numbers)
    producer = KafkaProducer(servers, pipeline.name)
    return ProducerPipeline(settings, origin, client, producer, spools, gaps)
