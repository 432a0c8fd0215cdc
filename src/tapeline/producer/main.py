"""`tapeline produce`: arguments → settings → client, producer, pipeline → run."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer
from pydantic import SecretStr

from tapeline.feeds.feed import our_symbols
from tapeline.feeds.known import Source, feed_of
from tapeline.kafka.topics import create_topics, topic_admin, topic_id_of
from tapeline.local.discovery import find_endpoints
from tapeline.local.home import Home
from tapeline.model.errors import UsageError
from tapeline.model.names import check_producer_name
from tapeline.model.symbols import parse_symbols
from tapeline.model.texts import counted
from tapeline.producer.feed_address import proxy_of, url_of
from tapeline.producer.reading import OpenReading, Reading, opened
from tapeline.program.command import run_command
from tapeline.program.logs import configure_logging
from tapeline.program.merged_metrics import MergedMetrics
from tapeline.program.metrics import Metrics
from tapeline.program.metrics_server import serve_metrics
from tapeline.program.process import STOP_LIMIT_S, end_with_parent, run_until_signalled
from tapeline.program.settings import FinnhubSettings, LogLevel, Settings, load_settings
from tapeline.simulator.child import DEMO, simulated_feed
from tapeline.simulator.main import parse_speed

log = structlog.get_logger()

_MADE_UP = frozenset({Source.SIMULATOR, Source.REPLAY})


def produce(
    symbols: Annotated[
        list[str] | None,
        typer.Option(
            help="Comma-separated, in the feed's names; some that are much traded by default."
        ),
    ] = None,
    symbols_file: Annotated[
        Path | None,
        typer.Option(help="File of symbols in place of --symbols, one a line, for thousands."),
    ] = None,
    source: Annotated[
        list[Source] | None,
        typer.Option(help="Where trades come from, finnhub by default; several at once may be."),
    ] = None,
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

      tapeline produce --source coinbase --symbols BTC-USD --source kraken --symbols ETH/USD

    Coinbase, Kraken and Binance want no key; their symbols are stored as COINBASE:BTC-USD,
    KRAKEN:BTC/USD and BINANCE:BTCUSDT. `tapeline symbols` changes them while it runs.
    """
    factor = parse_speed(speed)
    sources = source or [Source.FINNHUB]
    lists = _lists(sources, symbols, symbols_file)
    wanted = [
        our_symbols(feed_of(one.value), parse_symbols(names, any_name=one is Source.REPLAY))
        for one, names in zip(sources, lists, strict=True)
    ]
    _require_one_source_each(sources, wanted)
    host = socket.gethostname() if producer_id is None else check_producer_name(producer_id)
    settings = load_settings()
    default_topic = DEMO if sources[0] in _MADE_UP else settings.kafka.topic
    settings = settings.with_target(topic=default_topic if topic is None else topic)
    own_feed = sources[0] is Source.SIMULATOR and settings.finnhub.url == FinnhubSettings().url
    token = settings.finnhub_api_key
    for one, names in zip(sources, lists, strict=True) if not own_feed else ():
        if token is None and not feed_of(one.value).venue:
            raise UsageError(_without_key(names))
        proxy_of(url_of(feed_of(one.value), settings))
    Home(settings.home).make_writable()
    configure_logging(settings, log_level)
    end_with_parent()
    with ExitStack() as stack:
        if own_feed:
            simulated = stack.enter_context(simulated_feed(settings.home))
            simulated.wait()
            finnhub = settings.finnhub.model_copy(update={"url": simulated.url})
            settings = settings.model_copy(update={"finnhub": finnhub})
            token = SecretStr(simulated.token)
        pairs = zip(sources, wanted, strict=True)
        _run(settings, [Reading(one, names, host, token, factor) for one, names in pairs])


def _lists(
    sources: Sequence[Source], symbols: Sequence[str] | None, file: Path | None
) -> Sequence[str]:
    """Return the symbols of each source, as they were written."""
    if file is not None:
        symbols = [names_in(file)]
    if symbols is None:
        return [",".join(feed_of(source.value).default_symbols) for source in sources]
    if len(symbols) != len(sources):
        lists = counted(len(symbols), "list of symbols", "lists of symbols")
        message = (
            f"There are {len(sources)} --source and {lists}: give each source its --symbols, in "
            "the same order, or leave all of them out."
        )
        raise UsageError(message)
    return symbols


def _require_one_source_each(sources: Sequence[Source], wanted: Sequence[Sequence[str]]) -> None:
    """Check that no source and no symbol is there twice, and that nothing is beside a tape."""
    if len(sources) > 1 and (alone := _MADE_UP.intersection(sources)):
        message = f"--source {min(alone).value} goes alone: its trades are not those of a market."
        raise UsageError(message)
    for name, count in Counter(source.value for source in sources).items():
        if count > 1:
            message = f"--source {name} is there {count} times: give it once, with all its symbols."
            raise UsageError(message)
    for symbol, count in Counter(symbol for names in wanted for symbol in names).items():
        if count > 1:
            message = f"{symbol} would come by {count} sources, and its trades would count twice."
            raise UsageError(message)


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


def _run(settings: Settings, readings: Sequence[Reading]) -> None:
    endpoints = find_endpoints(settings)
    log.info("using", services=str(endpoints))
    servers = endpoints.bootstrap_servers
    admin = topic_admin(servers, settings.kafka)
    create_topics(admin, settings.kafka)
    topic_id = topic_id_of(admin, settings.kafka.topic)
    names = [reading.name for reading in readings]
    with ExitStack() as stack:
        parts = [
            stack.enter_context(opened(reading, settings, servers, topic_id, names))
            for reading in readings
        ]
        metrics: Metrics | MergedMetrics = parts[0].metrics
        if len(parts) > 1:
            metrics = MergedMetrics("source", {part.source: part.metrics for part in parts})
        with serve_metrics(metrics, settings.metrics.host, settings.metrics.producer_port):
            run_until_signalled(_run_all(parts), limit_s=STOP_LIMIT_S)


async def _run_all(parts: Sequence[OpenReading]) -> None:
    """Run all sources; the first that fails ends the others in order."""
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()  # also of what fails while it stops


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


def main() -> None:
    """Run as a program of its own."""
    run_command(produce)
