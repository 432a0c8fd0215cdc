"""`tapeline produce`: arguments → settings → client, producer, pipeline → run."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer
from pydantic import SecretStr
from xxhash import xxh32_hexdigest

from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import Source, feed_of
from tapeline.kafka.symbol_changes import SymbolChanges
from tapeline.kafka.topics import create_topics, topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.model.errors import UsageError
from tapeline.model.feed_status import FeedStatus
from tapeline.model.names import check_producer_name
from tapeline.model.symbols import parse_symbols
from tapeline.producer.feed_address import proxy_of, url_of
from tapeline.producer.feed_client import FeedClient
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.key_lock import one_connection
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.previous_run import by_another_feed, last_statuses, require_one_feed_each
from tapeline.producer.spool_folder import opened_spools
from tapeline.producer.symbol_control import SymbolControl
from tapeline.program.command import run_command
from tapeline.program.logs import configure_logging
from tapeline.program.metrics import PRODUCER_METRICS, Metrics
from tapeline.program.metrics_server import serve_metrics
from tapeline.program.process import STOP_LIMIT_S, end_with_parent, run_until_signalled
from tapeline.program.settings import FinnhubSettings, LogLevel, Settings, load_settings
from tapeline.simulator.child import DEMO, simulated_feed
from tapeline.simulator.main import parse_speed

log = structlog.get_logger()


def produce(
    symbols: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, in the feed's names; some that are much traded by default."
        ),
    ] = None,
    symbols_file: Annotated[
        Path | None,
        typer.Option(help="File of symbols in place of --symbols, one a line, for thousands."),
    ] = None,
    source: Annotated[Source, typer.Option(help="Where trades come from.")] = Source.FINNHUB,
    topic: Annotated[
        str | None, typer.Option(help="Kafka topic; trades_raw, or demo for the simulator.")
    ] = None,
    producer_id: Annotated[
        str | None,
        typer.Option(help="Begins its name in feed_status; the host by default."),
    ] = None,
    speed: Annotated[
        str, typer.Option(help="Of a tape that is played as the feed: as `simulate` was told.")
    ] = "1",
    log_level: Annotated[
        LogLevel | None, typer.Option(case_sensitive=False, help="The least that is logged.")
    ] = None,
) -> None:
    """Read the feed and write every trade to Kafka until stopped.

    Examples:
      tapeline produce --source coinbase --symbols BTC-USD,ETH-USD

      FINNHUB_API_KEY=… tapeline produce --symbols AAPL,MSFT

    Coinbase, Kraken and Binance want no key; their symbols are stored as COINBASE:BTC-USD,
    KRAKEN:BTC/USD and BINANCE:BTCUSDT.
    """
    factor = parse_speed(speed)
    feed = feed_of(source.value)
    if symbols is None:
        symbols = ",".join(feed.default_symbols)
    names = symbols if symbols_file is None else names_in(symbols_file)
    wanted = our_symbols(feed, parse_symbols(names, any_name=source is Source.REPLAY))
    host = socket.gethostname() if producer_id is None else check_producer_name(producer_id)
    settings = load_settings()
    is_made_up = source in {Source.SIMULATOR, Source.REPLAY}
    default_topic = DEMO if is_made_up else settings.kafka.topic
    settings = settings.with_target(topic=default_topic if topic is None else topic)
    needs_feed = source is Source.SIMULATOR and settings.finnhub.url == FinnhubSettings().url
    token = settings.finnhub_api_key
    if token is None and not needs_feed and not feed.venue:
        raise UsageError(_without_key(symbols))
    if not needs_feed:
        proxy_of(url_of(feed, settings))
    Home(settings.home).make_writable()
    configure_logging(settings, log_level)
    end_with_parent()
    name = _name_of(host, wanted)
    with ExitStack() as stack:
        if needs_feed:
            simulated = stack.enter_context(simulated_feed(settings.home))
            finnhub = settings.finnhub.model_copy(update={"url": simulated.url})
            settings = settings.model_copy(update={"finnhub": finnhub})
            token = SecretStr(simulated.token)
        _run(settings, token, wanted, source, name, factor)


def _without_key(symbols: str) -> str:
    return (
        "FINNHUB_API_KEY is not set. Get a free key from finnhub.io and set it, or take a feed "
        "that wants none:\n"
        "  tapeline produce --source coinbase\n"
        f"or run with simulated trades, which go to topic {DEMO}:\n"
        f"  tapeline produce --source simulator --symbols {symbols}\n"
        "and bring them to Cassandra from another terminal:\n"
        f"  tapeline init --topic {DEMO} --keyspace {DEMO}\n"
        f"  tapeline stream --topic {DEMO} --keyspace {DEMO}"
    )


def _run(
    settings: Settings,
    token: SecretStr | None,
    symbols: Sequence[str],
    source: Source,
    name: str,
    speed: float | None,
) -> None:
    endpoints = find_endpoints(settings)
    log.info("using", services=str(endpoints))
    admin = topic_admin(endpoints.bootstrap_servers, settings.kafka)
    create_topics(admin, settings.kafka)
    topic_id = topic_id_of(admin, settings.kafka.topic)
    origin = Origin(source.value, name, topic_id, speed)
    metrics = Metrics(PRODUCER_METRICS)
    producer = KafkaProducer(endpoints.bootstrap_servers, settings.kafka.topic, settings.kafka)
    servers, is_tape = endpoints.bootstrap_servers, source is Source.REPLAY
    with ExitStack() as stack:
        control = None
        if not is_tape:
            changes = stack.enter_context(
                closing(SymbolChanges(servers, settings.kafka, source.value))
            )
            changes.read_all()
            control = SymbolControl(
                symbols, changes, partial(_elsewhere, servers, settings, origin)
            )
            symbols = control.wanted()[: feed_of(source.value).most_symbols]
        client = stack.enter_context(_client(settings, token, symbols, source, metrics))
        spools = stack.enter_context(opened_spools(settings, name, is_tape=is_tape))
        gaps = None
        if not is_tape:
            views = last_statuses(servers, settings.kafka, topic_id)
            require_one_feed_each(views, source.value, symbols)
            reported = {name: view.status for name, view in views.items()}
            if name in reported:
                _go_on(client, reported[name])
            durable_us = spools.last_receipt_us(name)
            gaps = gap_reporter(settings, origin, client.symbols, reported, durable_us)
        pipeline = ProducerPipeline(settings, origin, client, producer, spools, gaps, metrics)
        with serve_metrics(metrics, settings.metrics.host, settings.metrics.producer_port):
            run_until_signalled(pipeline.run(control), limit_s=STOP_LIMIT_S)


def _elsewhere(
    servers: str, settings: Settings, origin: Origin, symbols: Collection[str]
) -> Collection[str]:
    """Return those symbols that come by another feed already."""
    views = last_statuses(servers, settings.kafka, origin.topic_id)
    return by_another_feed(views, origin.source, symbols)


def _go_on(client: FeedClient, before: FeedStatus) -> None:
    """Let a client know what its previous run received, and what not."""
    client.slots.goes_on_from(before.removed, before.without_slot)
    if before.last_message_us is not None:
        gone_us = before.last_message_us - before.late_us
        client.slots.changed(before.subscribed, client.symbols, gone_us)


@contextmanager
def _client(
    settings: Settings,
    token: SecretStr | None,
    symbols: Sequence[str],
    source: Source,
    metrics: Metrics,
) -> Iterator[FeedClient]:
    """Have the feed's client, and with a key the right to be the only one with it."""
    feed = feed_of(source.value)
    if token is None or feed.venue:
        url = url_of(feed, settings)
        yield FeedClient(feed, url, settings.finnhub, symbols, metrics=metrics)
        return
    with one_connection(settings.home, settings.finnhub.url, token):
        yield FinnhubClient(settings.finnhub, token, symbols, metrics=metrics)


def names_in(path: Path) -> str:
    """Return the lines of a file with commas between them.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return ",".join(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeError) as error:
        message = f"--symbols-file: {path} cannot be read: {error}."
        raise UsageError(message) from error


def _name_of(producer_id: str, symbols: Sequence[str]) -> str:
    """Return a name that stays after a restart and is another one for other symbols.

    What a producer covered, and its gaps, are of just these symbols.
    """
    return f"{producer_id}-{xxh32_hexdigest(','.join(sorted(symbols)).encode())}"


def main() -> None:
    """Run as a program of its own."""
    run_command(produce)
