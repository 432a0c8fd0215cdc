"""The producer on one core: frames at the socket until all their trades are in Kafka."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any, Final

import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition
from fastavro import schemaless_reader
from websockets.asyncio.server import ServerConnection, serve

from bench.check import WrongOutputError
from bench.cpu import Sampler, stretch
from bench.load import LoadTrade, SeededLoad
from bench.plain.consumer import HEADER_BYTES, READER_SCHEMA
from bench.services import LOOPBACK, Process, Services, fresh_services, tapeline

MEAN_FRAME: Final = 10
"""Trades a frame, on average; bursts of the real feed have more, quiet times one."""
_ACKNOWLEDGED: Final = "acknowledged"
_LONGEST_S: Final = 900.0
_TIMEOUT_S: Final = 20.0
_ON_ONE_CORE: Final = (
    "import os, sys; os.sched_setaffinity(0, {0}); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """What to run."""

    trades: int = 400_000
    symbols: int = 50
    rounds: int = 3


def run_producer(options: ProducerOptions) -> Iterator[dict[str, Any]]:
    """Yield the result of each round.

    Raises:
        WrongOutputError: Kafka does not hold just the trades that were sent.
    """
    start_ms = int(time.time() * 1000) - 3_600_000
    trades = list(SeededLoad(options.trades, options.symbols, start_ms=start_ms).trades())
    frames = _frames(trades)
    with fresh_services() as services:
        _leave_one_core(services)
        for round_number in range(options.rounds):
            topic = f"bench_frames_{round_number}"
            services.run("init", "--topic", topic, "--keyspace", "bench_topics")
            result = asyncio.run(_turn(services, topic, frames, trades))
            result["round"] = round_number
            print(
                f"  round {round_number} producer on one core: {result['per_s']:,.0f} trades/s, "
                f"{result['cpu_us_per_trade']:.1f} CPU-µs a trade, "
                f"{result['memory_mb']:.0f} MB"
            )
            yield result


async def _turn(
    services: Services, topic: str, frames: list[str], trades: list[LoadTrade]
) -> dict[str, Any]:
    symbols = sorted({trade.symbol for trade in trades})

    async def send(connection: ServerConnection) -> None:
        missing = set(symbols)
        while missing:
            missing.discard(orjson.loads(await connection.recv()).get("symbol"))
        for frame in frames:
            await connection.send(frame)
        await connection.wait_closed()

    async with serve(send, LOOPBACK, 0, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        environment = {
            "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{port}",
            "FINNHUB_API_KEY": "bench",
        }
        produce = ["produce", "--source", "simulator", "--topic", topic]
        command = on_one_core(tapeline(*produce, "--symbols", ",".join(symbols)))
        process = services.start("produce", command, environment)
        with (
            closing(_consumer(services)) as consumer,
            Sampler({"producer": process.pid}, _progress(consumer, topic), 0.1) as sampler,
        ):
            await _until_sent(process, sampler, len(trades))
        process.stop()
    _check(services, topic, trades)
    samples = sampler.samples
    part = stretch(samples, _ACKNOWLEDGED, 1, len(trades))
    return {
        "trades": len(trades),
        "mean_frame": MEAN_FRAME,
        "per_s": part.rate(_ACKNOWLEDGED),
        "cpu_us_per_trade": part.cpu_s("producer") / part.gain(_ACKNOWLEDGED) * 1e6,
        "memory_mb": max(s.usage["producer"].rss_mb for s in samples),
    }


async def _until_sent(process: Process, sampler: Sampler, wanted: int) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while sampler.samples[-1].progress[_ACKNOWLEDGED] < wanted:
        if not process.is_running() or time.monotonic() > deadline:
            raise RuntimeError(process.failure())
        await asyncio.sleep(0.05)


def on_one_core(command: list[str]) -> list[str]:
    """Return a command line that runs on the first core alone, where a system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        return command
    return [sys.executable, "-c", _ON_ONE_CORE, *command]


def _leave_one_core(services: Services) -> None:
    """Keep everything else off the first core, if there is another one."""
    cores = set(range(psutil.cpu_count() or 1)) - {0}
    if not cores or not hasattr(os, "sched_setaffinity"):
        return
    for pid in (os.getpid(), services.pid_of("kafka"), services.pid_of("cassandra")):
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)


def _frames(trades: list[LoadTrade]) -> list[str]:
    """Return Finnhub's frames of the trades, in their order."""
    rng = random.Random(1)  # noqa: S311 - a load, not a secret
    rest = iter(trades)
    frames = []
    while batch := list(islice(rest, rng.randint(1, 2 * MEAN_FRAME - 1))):
        data = [
            {"c": t.conditions, "p": t.price, "s": t.symbol, "t": t.event_time_ms, "v": t.volume}
            for t in batch
        ]
        frames.append(orjson.dumps({"data": data, "type": "trade"}).decode())
    return frames


def _consumer(services: Services) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": services.bootstrap_servers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )


def _progress(consumer: Consumer, topic: str) -> Callable[[], Mapping[str, float]]:
    partitions = consumer.list_topics(topic, _TIMEOUT_S).topics[topic].partitions

    def look() -> Mapping[str, float]:
        ends = (
            consumer.get_watermark_offsets(TopicPartition(topic, p), _TIMEOUT_S)[1]
            for p in partitions
        )
        return {_ACKNOWLEDGED: float(sum(ends))}

    return look


def _check(services: Services, topic: str, trades: list[LoadTrade]) -> None:
    """Read everything back and compare it with what was sent."""
    sent = Counter((t.symbol, t.price, t.volume, t.event_time_ms, t.conditions) for t in trades)
    found: Counter[tuple[Any, ...]] = Counter()
    with closing(_consumer(services)) as consumer:
        partitions = consumer.list_topics(topic, _TIMEOUT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        while sum(found.values()) < len(trades):
            messages = consumer.consume(10_000, _TIMEOUT_S)
            if not messages:
                break
            for message in messages:
                value: Any = message.value()
                t: Any = schemaless_reader(BytesIO(value[HEADER_BYTES:]), READER_SCHEMA, None)
                conditions = tuple(t["conditions"]) if t["conditions"] else None
                found[t["symbol"], t["price"], t["volume"], t["event_time"], conditions] += 1
    if found != sent:
        text = f"{topic}: Kafka holds {sum(found.values()):,} trades, other than were sent"
        raise WrongOutputError(text)
