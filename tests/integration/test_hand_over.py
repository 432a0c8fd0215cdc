"""One producer takes over from another without a gap: two keys, both connected for a while.

Real processes on one simulated market; each connection gets the same trades, in frames of its own::

    blue    ├───────────────────┤             ├──────┤
    green             ├──────────────────────────┤
    missed                                            nothing
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from tapeline.kafka.feed_view import FeedSnapshot, FeedView
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.coverage import Coverage, ProducerView
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import GapKind
from tapeline.model.times import from_micros, now_us, to_millis
from tapeline.simulator.feed import FeedFrame
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tests.commands import UNMEASURED, finish, run, start, wait_for
from tests.pipeline import Pipeline

SYMBOLS = ("AAPL", "BINANCE:BTCUSDT")
SECOND = timedelta(seconds=1)


class OneMarket:
    """Trades that follow from their time alone, twins among them; each listener has its frames.

    Args:
        start_ms: when it opens.
        frame_ms: how much time a frame holds.
        splits: whether the trades of a frame's last millisecond come in two frames.
    """

    is_live = True
    symbols = SYMBOLS

    def __init__(self, start_ms: int, frame_ms: int, *, splits: bool) -> None:
        self.start_ms = start_ms
        self._frame_ms = frame_ms
        self._splits = splits

    def frames(self, now_ms: int) -> Iterator[FeedFrame]:
        due_ms = now_ms - now_ms % self._frame_ms
        rest: list[dict[str, Any]] = []
        while True:
            due_ms += self._frame_ms
            times = range(due_ms - self._frame_ms, due_ms)
            trades = rest + [trade for ms in times for trade in trades_at(ms)]
            rest = [trades.pop()] if self._splits and trades else []
            if trades:
                yield FeedFrame(due_ms, trades)


def trades_at(ms: int) -> list[dict[str, Any]]:
    """Return the market's trades of a millisecond, one in fifty of which has two to six."""
    chosen = random.Random(ms)  # noqa: S311 - a market, not a secret
    if chosen.random() > 0.02:
        return []
    return [
        {
            "s": symbol,
            "p": 100.0 + chosen.randrange(3),
            "v": 1.0 + chosen.randrange(2),
            "t": ms,
            "c": None,
        }
        for symbol in SYMBOLS
        for _ in range(1 + chosen.randrange(3))
    ]


@contextmanager
def markets(*servers: SimulatedFinnhub) -> Iterator[None]:
    """Serve the market to several keys, in a thread."""
    loop, ends = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with servers[0].serve(), servers[1].serve():
            await ends.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()
        loop.close()


def server(key: str, frame_ms: int, *, splits: bool) -> SimulatedFinnhub:
    market = OneMarket(now_us() // 1000, frame_ms, splits=splits)
    return SimulatedFinnhub(ServerOptions(LOOPBACK, free_port(0), key, 1.0), market)


class Producers:
    """Starts and stops the producers of one topic, each with a key and a feed of its own."""

    def __init__(self, pipeline: Pipeline, servers: dict[str, SimulatedFinnhub]) -> None:
        self._pipeline = pipeline
        self._servers = servers
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        """Start one, and return when it has heard a trade."""
        options = self._servers[name].options
        kafka = self._pipeline.settings.kafka
        since_us = now_us()
        self._running[name] = start(
            *("produce", "--source", "simulator", "--topic", kafka.topic),
            *("--producer-id", name, "--symbols", ",".join(SYMBOLS)),
            environment={
                **UNMEASURED,
                "FINNHUB_API_KEY": options.token,
                "TAPELINE_FINNHUB__URL": f"ws://{LOOPBACK}:{options.port}",
                "TAPELINE_KAFKA__STATUS_TOPIC": kafka.status_topic,
                "TAPELINE_KAFKA__GAPS_TOPIC": kafka.gaps_topic,
                "TAPELINE_METRICS__PRODUCER_PORT": "0",
            },
        )
        process = self._running[name]
        wait_for(lambda: self.status(name, since_us) or None, while_runs=process)

    def wait_for_more_of(self, name: str) -> None:
        """Wait until all of the market is heard to three seconds after what was heard by now."""
        now = self.status(name)
        assert now is not None
        until_us = (now.last_message_us or 0) + 3_000_000

        def has_more() -> bool:
            status = self.status(name, until_us)
            return status is not None and (status.last_message_us or 0) - status.late_us > until_us

        wait_for(has_more, while_runs=self._running[name])

    def stop(self, name: str) -> FeedStatus:
        """Stop one as an operator does; return its last report."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        finish(process)
        status = self.status(name)
        assert status is not None
        assert (status.has_stopped, status.pending) == (True, 0)
        return status

    def kill(self) -> None:
        """End what a failed test leaves."""
        for process in self._running.values():
            process.kill()
            process.communicate()

    def status(self, name: str, since_us: int = 0) -> FeedStatus | None:
        """Return a producer's newest report, if it has heard something since a time."""
        for producer in self.snapshot().producers:
            status = producer.status
            if status.producer_id.startswith(f"{name}-"):
                return status if (status.last_message_us or 0) > since_us else None
        return None

    def snapshot(self) -> FeedSnapshot:
        pipeline = self._pipeline
        servers = pipeline.endpoints.bootstrap_servers
        with closing(FeedView(servers, pipeline.settings.kafka, pipeline.topic_id)) as view:
            return view.snapshot(datetime.now(timezone.utc))


def sleep_s(seconds: float) -> None:
    threading.Event().wait(seconds)


def is_covered(snapshot: FeedSnapshot, only: str, start: datetime, end: datetime) -> bool:
    """Return whether producers whose names begin so leave no bar incomplete, as bars are told."""
    some: list[ProducerView] = [
        p for p in snapshot.producers if p.status.producer_id.startswith(only)
    ]
    coverage = Coverage(some, snapshot.gaps, is_readable=snapshot.is_readable)
    return all(coverage.is_complete(symbol, start, end) for symbol in SYMBOLS)


def test_with_two_keys_a_producer_takes_over_and_gives_back_without_a_gap(
    pipeline: Pipeline,
) -> None:
    servers = {
        "blue": server("key-of-blue", 100, splits=False),
        "green": server("key-of-green", 70, splits=True),
    }
    producers = Producers(pipeline, servers)
    with markets(*servers.values()):
        try:
            began = datetime.now(timezone.utc)
            producers.start("blue")
            heard = datetime.now(timezone.utc)
            for old, new in (("blue", "green"), ("green", "blue")):
                producers.start(new)
                producers.wait_for_more_of(new)
                producers.stop(old)
                sleep_s(3)
            last = producers.stop("blue")
        finally:
            producers.kill()
    snapshot = producers.snapshot()
    pipeline.ingest()
    pipeline.now += timedelta(hours=1)  # so that the bars are final, and audited
    assert pipeline.finalize().finalized > 0

    # Every trade of the market is in silver once, twins included, though most came twice.
    rows = pipeline.rows("trades_silver")
    found = Counter(
        (
            r["symbol"],
            to_millis(r["event_time"].replace(tzinfo=timezone.utc)),
            r["price"],
            r["volume"],
        )
        for r in rows
    )
    first_ms, last_ms = min(k[1] for k in found), max(k[1] for k in found)
    market = Counter(
        (t["s"], t["t"], t["p"], t["v"]) for ms in range(first_ms, last_ms) for t in trades_at(ms)
    )
    assert {k: n for k, n in found.items() if k[1] < last_ms} == market
    assert max(market.values()) > 1
    assert len(pipeline.rows("trades_bronze")) > len(rows)
    run("audit", "--keyspace", pipeline.name, "--topic", pipeline.name)

    # Blue was away meanwhile, and says so; no bar is incomplete for it.
    gaps = list(pipeline.client.gaps(began, datetime.now(timezone.utc)))
    assert [(g.kind, g.producer_id.split("-")[0]) for g in gaps] == [(GapKind.STOPPED, "blue")]
    assert last.last_message_us is not None
    end = from_micros(last.last_message_us - last.late_us) - SECOND
    assert end - heard > 12 * SECOND
    assert is_covered(snapshot, "", heard, end)
    assert not is_covered(snapshot, "blue", heard, end)
    assert not is_covered(snapshot, "green", heard, end)
