"""A live feed: how soon is a trade seen, and what do all parts cost meanwhile?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cassandra.cluster import Session

from bench.check import WrongOutputError, check_live_bars
from bench.contestants import PROGRESS, Contestant, Target, progress_of, start
from bench.cpu import Sampler, Stretch
from bench.feed import Feed, feed_symbols
from bench.into_kafka import fill
from bench.listener import GoldReader, Seen, delays, listen, trade_delays
from bench.load import SeededLoad
from bench.ports import free_port, is_answering
from bench.services import LOOPBACK, Process, Services, fresh_services, tapeline
from bench.stats import latency
from tapeline.kafka.topics import topic_admin, topic_id_of

TOPIC: Final = "bench_live"
_READ_SYMBOLS: Final = 3
"""Gold is read for the busiest ones, so that reading costs next to nothing."""
_START_S: Final = 180.0
_GRACE_S: Final = 15.0
"""What was sent in the window may be seen so much later."""
_ALL_IN_S: Final = 120.0
_LONGEST_BACKLOG_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What to run. Times in s; `after_s` counts from the first trade in gold."""

    rate: float
    contestants: Sequence[Contestant] = (Contestant.TAPELINE, Contestant.PLAIN)
    rounds: int = 1
    symbols: int = 50
    after_s: float = 600.0
    window_s: float = 120.0
    listeners: int = 1
    channels: str = "bars"
    behind: int = 0
    """Trades that wait in Kafka first; then the window lasts until they are in the tables."""
    stream_options: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What runs in one turn."""

    services: Services
    session: Session
    contestant: Contestant
    processes: Mapping[str, Process]
    url: str | None
    topic_id: str

    @property
    def roles(self) -> dict[str, int]:
        """Root process by role."""
        services = {name: self.services.pid_of(name) for name in ("kafka", "cassandra")}
        return {role: process.pid for role, process in self.processes.items()} | services


def run_live(options: LiveOptions) -> Iterator[dict[str, Any]]:
    """Yield the result of each contestant in each round, on services of its own.

    Raises:
        WrongOutputError: a contestant's bars are wrong.
    """
    for round_number in range(options.rounds):
        for contestant in options.contestants:
            with fresh_services() as services:
                result = asyncio.run(_turn(services, contestant, options))
            result["round"] = round_number
            print(_line(result))
            yield result


async def _turn(services: Services, contestant: Contestant, options: LiveOptions) -> dict[str, Any]:
    services.run("init", "--topic", TOPIC, "--keyspace", "bench_topics")
    if options.behind:
        load = SeededLoad(options.behind, options.symbols)
        fill(services.bootstrap_servers, TOPIC, load, ends=False)
    feed = Feed(options.rate, feed_symbols(options.symbols))
    async with feed.serving():
        with services.session() as session:
            parts = _start(services, session, contestant, feed, options)
            with GoldReader(session, contestant.keyspace, feed.symbols[:_READ_SYMBOLS]) as gold:
                return await _measure(parts, feed, gold(), options)


def _start(
    services: Services,
    session: Session,
    contestant: Contestant,
    feed: Feed,
    options: LiveOptions,
) -> _Parts:
    """Start producer, consumer and, for Tapeline, the API."""
    topic_id = topic_id_of(topic_admin(services.bootstrap_servers), TOPIC)
    produce = ["produce", "--source", "simulator", "--topic", TOPIC]
    produce += ["--symbols", ",".join(feed.symbols)]
    target = Target(TOPIC, topic_id, until_end=False)
    processes = {
        "producer": services.start("produce", tapeline(*produce), feed.environment),
        "stream": start(services, contestant, target, options.stream_options),
    }
    url = None
    if contestant is Contestant.TAPELINE:
        port = free_port()
        api = ["api", "--topic", TOPIC, "--keyspace", contestant.keyspace, "--port", str(port)]
        processes["api"] = services.start("api", tapeline(*api))
        url = f"http://{LOOPBACK}:{port}"
    return _Parts(services, session, contestant, processes, url, topic_id)


async def _measure(parts: _Parts, feed: Feed, gold: Seen, options: LiveOptions) -> dict[str, Any]:
    heard = [Seen() for _ in range(options.listeners if parts.url else 0)]
    if parts.url:
        await _until(lambda: is_answering(parts.url), _START_S, "the API answers", parts)
    listening = [
        asyncio.ensure_future(listen(parts.url or "", feed.symbols, options.channels, seen))
        for seen in heard
    ]
    progress = progress_of(parts.session, parts.contestant, parts.topic_id)
    with Sampler(parts.roles, progress) as sampler:
        if options.behind:
            samples, times = await _while_behind(parts, sampler, options)
        else:
            await _until(lambda: bool(gold.counts), _START_S, "a bar is in gold", parts)
            await _pause(options.after_s, parts)
            samples, times = await _window(options.window_s, sampler, parts)
        memory = sampler.look(shares=True).usage
    await _pause(_GRACE_S, parts)
    feed.is_over.set()
    if not options.behind:
        await _check(parts, feed)
    for task in listening:
        task.cancel()
    results = await asyncio.gather(*listening, return_exceptions=True)
    for failure in (r for r in results if isinstance(r, Exception)):
        raise failure
    return {
        "contestant": parts.contestant.value,
        "rate": options.rate,
        "behind": options.behind,
        "cores": {role: samples.cores(role) for role in parts.roles},
        "memory_mb": {role: usage.rss_mb for role, usage in memory.items()},
        "memory_shared_mb": {role: usage.pss_mb for role, usage in memory.items()},
        "window_s": samples.seconds,
        "gold": _latency(delays(gold, feed.sent, *times)),
        **(_heard(heard, feed, times) if heard else {}),
    }


async def _window(
    seconds: float, sampler: Sampler, parts: _Parts
) -> tuple[Stretch, tuple[float, float]]:
    """Wait; return what happened meanwhile, and from when to when (s since the epoch)."""
    first, since_s = sampler.look(), time.time()
    await _pause(seconds, parts)
    return Stretch(first, sampler.look()), (since_s, time.time())


async def _while_behind(
    parts: _Parts, sampler: Sampler, options: LiveOptions
) -> tuple[Stretch, tuple[float, float]]:
    """Wait from the first rows of the backlog to its last."""
    samples = sampler.samples

    def reaches(messages: float) -> bool:
        return samples[-1].progress[PROGRESS] >= messages

    await _until(lambda: reaches(1), _START_S, "the backlog's first rows", parts)
    first, since_s = samples[-1], time.time()
    await _until(lambda: reaches(options.behind), _LONGEST_BACKLOG_S, "the backlog's end", parts)
    return Stretch(first, sampler.look()), (since_s, time.time())


async def _check(parts: _Parts, feed: Feed) -> None:
    """Wait until the tables have every trade that was sent; raise if they never do."""
    deadline = time.monotonic() + _ALL_IN_S
    while True:
        try:
            check_live_bars(parts.session, parts.contestant.keyspace, feed.sent.truth)
        except WrongOutputError:
            if time.monotonic() > deadline:
                raise
            await _pause(2.0, parts)
        else:
            return


def _heard(heard: Sequence[Seen], feed: Feed, times: tuple[float, float]) -> dict[str, Any]:
    """Return what listeners got; only the first one's times count."""
    first = heard[0]
    finals = set().union(*(seen.finals for seen in heard))
    result: dict[str, Any] = {
        "stream": _latency(delays(first, feed.sent, *times)),
        "listeners": len(heard),
        "cut_off": sum(seen.was_cut for seen in heard),
        "final_bars": len(finals),
        "final_bars_missed": sum(len(finals - seen.finals) for seen in heard),
    }
    if first.trades:
        result["trades"] = _latency(trade_delays(first, feed.sent, *times))
    return result


def _latency(values_s: list[float]) -> dict[str, float] | None:
    return latency(values_s) if values_s else None


async def _pause(seconds: float, parts: _Parts) -> None:
    """Wait; raise when a part fails meanwhile."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        await asyncio.sleep(min(1.0, left_s))
        _require(parts)


async def _until(is_done: Any, timeout_s: float, what: str, parts: _Parts) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if time.monotonic() > deadline:
            message = f"{what}: not within {timeout_s:.0f} s"
            raise TimeoutError(message)
        _require(parts)
        await asyncio.sleep(0.1)


def _require(parts: _Parts) -> None:
    for process in parts.processes.values():
        if not process.is_running():
            raise RuntimeError(process.failure())


def _line(result: dict[str, Any]) -> str:
    def shown(name: str) -> str:
        found = result.get(name)
        if found is None:
            return f"{name} -"
        return f"{name} p50 {found['p50_s']:.3f} p99 {found['p99_s']:.3f} s ({found['count']:,.0f})"

    cores = ", ".join(f"{role} {busy:.2f}" for role, busy in result["cores"].items())
    memory = sum(result["memory_mb"].values())
    delays_shown = "; ".join(shown(name) for name in ("stream", "trades", "gold"))
    return (
        f"  round {result['round']} {result['contestant']:9} {result['rate']:.0f}/s: "
        f"{delays_shown}; cores {cores}; memory {memory:,.0f} MB"
    )
