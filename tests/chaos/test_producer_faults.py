"""The producer while Kafka, its disk, its host or itself fails, and the feed does not wait.

Real processes: `tapeline simulate` and `tapeline produce`, and a Kafka of the test's own. Every
trade of the tape has a size of its own, so what is lost is known by name. `CHAOS_SEEDS` says how
many seeds the kill of the producer has, 2 if not set; a seed chooses its moment and the rate.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from confluent_kafka.cimpl import NewTopic
from pydantic import SecretStr

from tapeline.kafka.topics import create_topics, topic_admin
from tapeline.local.home import Home
from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.feed_status import FeedStatus
from tapeline.producer.clock import FeedClock
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.spool import Spool
from tapeline.producer.spool_folder import Spools
from tapeline.program.metrics import DEAD_LETTERS, TRADES
from tapeline.program.settings import FinnhubSettings, load_settings
from tapeline.simulator.market import RandomMarket
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tests.commands import TIMEOUT_S, wait_for
from tests.live_feed import (
    TOKEN,
    TOPIC,
    LiveFeed,
    OwnKafka,
    Seen,
    live_feed,
    own_kafka,
    size_of_spool,
)

SEEDS = range(1, 1 + int(os.environ.get("CHAOS_SEEDS", "2")))
RATE = 4000
"""Trades a second: Kafka's client holds 50,000, so an outage of 15 s is more than it holds."""
LOW_RATE = 1000
"""Trades a second that a producer reads in time on a busy machine too."""
DRAIN = 5
"""How many times as fast as the feed what Kafka missed must go there, on a machine of its own."""
RUN_UP_S = 3
"""How long a producer delivers before a fault."""
MORE_S = 60
"""How much longer than it should need a tape is, for a busy machine."""
SECOND_US = 1_000_000
ONE_GROUP_BYTES = 100_000
"""More than was read before the producer stood still and is written after it."""
# Frames hold 20 ms of trades, and a group 20 ms of frames.
NEAR_US = 150_000
BUSY_US = 5 * SECOND_US
"""The same where a process may have to wait for its turn."""


@pytest.fixture
def kafka(
    home: Home, turn: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> Iterator[OwnKafka]:
    with own_kafka(tmp_path, home.jars, turn) as own:
        yield own


def lost(trades: list[Seen], everything: set[tuple[str, int]]) -> set[tuple[str, int]]:
    return everything - {(t.symbol, t.size) for t in trades}


def assert_in_order(trades: list[Seen]) -> None:
    """The first copies of each symbol's trades come in the order in which they were sent."""
    for symbol in {t.symbol for t in trades}:
        first = list(dict.fromkeys(t.size for t in trades if t.symbol == symbol))
        assert first == sorted(first)


def assert_covered(
    feed_count: int, trades: list[Seen], gaps: list[tuple[int, int | None]], rate: int = RATE
) -> int:
    """What is missing was due in a recorded gap, and no gap is much longer than what is missing.

    Receipts of the trades beside a hole tell when it was, independently of the gap.
    """
    received = {t.size: t.received_at_us for t in trades}
    missing = [n for n in range(1, feed_count + 1) if n not in received]
    # A tape's trade n is due 1/rate s after the one before; one of them came at once.
    first_us = min(us - (n - 1) * SECOND_US // rate for n, us in received.items())
    for number in missing:
        due_us = first_us + (number - 1) * SECOND_US // rate
        assert any(
            start <= due_us + NEAR_US and (end is None or due_us - NEAR_US <= end)
            for start, end in gaps
        ), (number, due_us, gaps)
    return len(missing)


def begin_of(gap: tuple[int, int | None], trades: list[Seen]) -> int:
    """Return since when nothing was received, in µs: a gap begins earlier by what the feed is late.

    The feed of these tests begins with its first listener, some seconds after its first trade was
    due, and is late by that ever after.
    """
    late_us = statistics.median(t.received_at_us - t.event_time_ms * 1000 for t in trades)
    return gap[0] + round(late_us)


def newest_of(trades: list[Seen]) -> int:
    """Return how many trades the feed had sent when the last one of these came."""
    return max(t.size for t in trades)


def run_again(feed: LiveFeed, kafka: OwnKafka) -> list[Seen]:
    """Start a producer again until it delivers and no gap lasts; return what Kafka has then."""
    again = feed.produce()
    feed.wait_until_delivers(again)
    wait_for(lambda: all(end is not None for _, end in kafka.gaps()))
    again.terminate()
    assert again.wait(TIMEOUT_S) == 0, feed.log_of(again)
    return kafka.trades()


def drain(trades: list[Seen], rate: int, back_us: int) -> tuple[int, float]:
    """Return how many trades Kafka took until it lacked none, and in how many seconds.

    By the broker's clock and the tape alone: what the feed has sent until then less what Kafka has
    written is what the producer still holds. A second of it may always be under way.

    Args:
        trades: all of them, some perhaps twice.
        rate: the feed's, trades a second.
        back_us: when Kafka was there again, µs since the epoch.
    """
    written: dict[int, int] = {}
    for trade in sorted(trades, key=lambda t: t.appended_at_us):
        written.setdefault(trade.size, trade.appended_at_us)
    times = sorted(written.values())
    before = sum(us < back_us for us in times)
    first_us = min(us - (n - 1) * SECOND_US // rate for n, us in written.items())

    def held(count: int) -> float:
        sent = (times[count - 1] - first_us) * rate / SECOND_US
        return min(len(times), sent) - count

    drained = next(n for n in range(before + 1, len(times) + 1) if held(n) <= rate)
    return drained - before, (times[drained - 1] - back_us) / SECOND_US


@pytest.mark.parametrize(
    ("fault", "rate", "away_s"),
    [
        pytest.param("stopped", RATE, 18, marks=pytest.mark.long),
        pytest.param("killed", RATE, 18, marks=pytest.mark.long),
        ("stopped", LOW_RATE, 60),
        pytest.param("killed", LOW_RATE, 60, marks=pytest.mark.long),
        pytest.param("stopped", LOW_RATE, 360, marks=pytest.mark.long),
        pytest.param("killed", LOW_RATE, 360, marks=pytest.mark.long),
    ],
)
def test_kafka_away_for_a_while_loses_nothing_though_the_feed_does_not_wait(
    kafka: OwnKafka,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    rate: int,
    away_s: float,
    *,
    is_long: bool,
) -> None:
    with live_feed(kafka, tmp_path, rate, away_s * 1.1 + 40) as feed:
        producer = feed.produce()
        feed.wait_until_delivers(producer)
        time.sleep(RUN_UP_S)
        if fault == "stopped":
            kafka.signal(signal.SIGSTOP)
        else:
            kafka.kill()
        before = size_of_spool(kafka.home)
        time.sleep(away_s)
        # However late it reads: what the outage brought; a trade takes 90 bytes at least.
        wait_for(lambda: size_of_spool(kafka.home) > before + away_s * rate * 90)
        at_worst = size_of_spool(kafka.home) - before
        if fault == "killed":
            kafka.start()
        back_us = time.time_ns() // 1000
        if fault == "stopped":
            kafka.signal(signal.SIGCONT)
        assert producer.wait(TIMEOUT_S) == 0, feed.log_of(producer)
        trades = kafka.trades()
        taken, within_s = drain(trades, rate, back_us)
        times_as_fast = taken / rate / within_s
        with capsys.disabled():
            told = f"{at_worst} bytes spooled, then {taken} trades in {within_s:.2f} s"
            told = f"{told}, {times_as_fast:.1f} times as fast as the feed"
            print(f"\n{fault} for {away_s} s at {rate}/s: {told}")  # noqa: T201 - for the reader

        assert lost(trades, feed.all) == set()
        assert_in_order(trades)
        assert kafka.gaps() == []
        assert "slow_reader_cut_off" not in feed.logs()
        assert taken > away_s * rate * 0.9
        assert times_as_fast > (DRAIN if is_long else 1)
        status = FeedStatus.from_bytes(kafka.messages("feed_status")[-1].value())
        assert (status.pending, status.oldest_unsent_us) == (0, None)


@pytest.mark.long
def test_sigterm_while_kafka_is_away_ends_in_time_and_the_next_start_delivers_all(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    with live_feed(kafka, tmp_path, RATE, 60) as feed:
        producer = feed.produce()
        feed.wait_until_delivers(producer)
        time.sleep(RUN_UP_S)
        kafka.signal(signal.SIGSTOP)
        time.sleep(17)  # its queue is full by then
        asked_s = time.monotonic()
        producer.terminate()
        assert producer.wait(10) == 0, feed.log_of(producer)
        took_s = time.monotonic() - asked_s
        kafka.signal(signal.SIGCONT)
        before = kafka.trades()
        again = feed.produce()
        assert again.wait(TIMEOUT_S) == 0, feed.log_of(again)
        trades = kafka.trades()

        assert took_s < 10
        assert "spool_keeps_messages" in feed.log_of(producer)
        assert "spool_has_messages" in feed.log_of(again)
        assert len(trades) > len(before)
        assert_in_order(trades)
        # Only what came while nobody ran is missing, and that is one gap.
        (gap,) = kafka.gaps()
        assert gap[1] is not None
        missing = assert_covered(feed.count, trades, [gap])
        lasted_us = gap[1] - begin_of(gap, trades)
        assert abs(lasted_us - missing * SECOND_US // RATE) < SECOND_US // 2


@pytest.mark.parametrize(
    ("seed", "is_kafka_away"),
    [
        pytest.param(seed, away, marks=[] if (seed, away) == (1, False) else pytest.mark.long)
        for away in (False, True)
        for seed in SEEDS
    ],
)
def test_kill_9_of_the_producer_loses_one_group_at_most_and_the_gap_covers_the_hole(
    kafka: OwnKafka,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seed: int,
    *,
    is_kafka_away: bool,
    is_long: bool,
) -> None:
    """The tape is far longer than the test, which ends when it has seen the end of the gap."""
    chosen = random.Random(seed)  # noqa: S311 - a choice, not a secret
    rate, alive_s = chosen.randint(500, RATE), chosen.uniform(3, 9)
    away_s = chosen.uniform(0, 5) if is_kafka_away else 0.0
    near_us = NEAR_US if is_long else BUSY_US
    with live_feed(kafka, tmp_path, rate, alive_s + away_s + 8 + MORE_S) as feed:
        producer = feed.produce()
        feed.wait_until_delivers(producer)
        time.sleep(alive_s)
        if is_kafka_away:
            kafka.signal(signal.SIGSTOP)
            time.sleep(away_s)
        killed_us = time.time_ns() // 1000
        producer.kill()
        producer.wait()
        if is_kafka_away:
            kafka.signal(signal.SIGCONT)
        trades = run_again(feed, kafka)

        (gap,) = kafka.gaps()
        count = newest_of(trades)
        missing = assert_covered(count, trades, [gap], rate)
        began_us = begin_of(gap, trades)
        with capsys.disabled():
            told = f"{missing} of {count} trades missing, {(killed_us - began_us) / 1000:.0f} ms"
            print(f"\n{alive_s:.1f} + {away_s:.1f} s at {rate}/s: {told} to the kill")  # noqa: T201 - for the reader
        assert missing > 0  # it takes a while to start
        received = sorted(t.received_at_us for t in trades)
        newest_before = max(us for us in received if us <= killed_us)
        first_after = min(us for us in received if us > killed_us)
        assert gap[1] is not None
        assert gap[0] <= newest_before <= killed_us < gap[1] <= first_after
        # Durable up to a group of 20 ms before the kill.
        assert abs(killed_us - began_us) < near_us
        assert abs(newest_before - began_us) < near_us
        lasted_us = gap[1] - began_us
        assert abs(lasted_us - missing * SECOND_US // rate) < max(near_us, SECOND_US // 2)
        assert_in_order(trades)


@pytest.mark.long
def test_a_producer_that_stood_still_reports_the_gap_from_where_it_stopped_reading(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    """What was buffered is read late; the hole begins before that, where the feed cut us off."""
    with live_feed(kafka, tmp_path, RATE, 40) as feed:
        producer = feed.produce()
        feed.wait_until_delivers(producer)
        time.sleep(RUN_UP_S)
        producer.send_signal(signal.SIGSTOP)
        stopped_us = time.time_ns() // 1000
        time.sleep(15)
        resumed_us = time.time_ns() // 1000
        producer.send_signal(signal.SIGCONT)
        assert producer.wait(TIMEOUT_S) == 0, feed.log_of(producer)
        trades = kafka.trades()

        assert feed.logs().count("slow_reader_cut_off") == 1
        gaps = kafka.gaps()
        assert assert_covered(feed.count, trades, gaps) > 5 * RATE
        (gap,) = gaps
        assert gap[1] is not None
        assert abs(stopped_us - begin_of(gap, trades)) < 300_000
        assert resumed_us < gap[1] < resumed_us + 3 * SECOND_US


@pytest.mark.long
def test_a_producer_killed_while_it_catches_up_reports_the_gap_from_where_it_stopped_reading(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    """What it has read late is on disk; what was in the socket behind that is lost with it."""
    with live_feed(kafka, tmp_path, RATE, 25 + MORE_S) as feed:
        producer = feed.produce()
        feed.wait_until_delivers(producer)
        time.sleep(RUN_UP_S)
        producer.send_signal(signal.SIGSTOP)
        stopped_us = time.time_ns() // 1000
        time.sleep(2)
        on_disk = size_of_spool(kafka.home)
        producer.send_signal(signal.SIGCONT)
        while size_of_spool(kafka.home) <= on_disk + ONE_GROUP_BYTES:
            time.sleep(0.001)
        producer.kill()  # some of what waited is on disk, not all
        producer.wait()
        trades = run_again(feed, kafka)

        (gap,) = kafka.gaps()
        began_us = begin_of(gap, trades)
        assert abs(stopped_us - began_us) < 300_000
        # A trade that was read late carries that time, so only those read in time tell the rest's.
        in_time = [t for t in trades if not began_us < t.received_at_us < gap[1]]
        assert len(in_time) < len(trades)
        assert assert_covered(newest_of(trades), in_time, [gap]) > RATE


def test_a_full_disk_under_the_spool_stops_it_loudly_and_it_goes_on_when_there_is_space(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    """The system refuses to let a file grow by more than a MB, as a full disk does."""
    with live_feed(kafka, tmp_path, LOW_RATE, 300) as feed:
        producer = feed.produce()
        feed.wait_until_delivers(producer)
        time.sleep(RUN_UP_S)
        kafka.signal(signal.SIGSTOP)
        most = size_of_spool(kafka.home) + 2**20
        resource.prlimit(producer.pid, resource.RLIMIT_FSIZE, (most, most))
        assert producer.wait(TIMEOUT_S) == 9, feed.log_of(producer)
        assert "cannot be written" in feed.log_of(producer)
        kafka.signal(signal.SIGCONT)
        trades = run_again(feed, kafka)

        (gap,) = kafka.gaps()
        assert assert_covered(newest_of(trades), trades, [gap], LOW_RATE) > 0
        assert_in_order(trades)


@pytest.mark.long
def test_a_status_that_kafka_refuses_stops_the_producer_at_once(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    """No frame comes meanwhile: nobody plays the feed."""
    admin = topic_admin(kafka.servers)
    small = NewTopic("feed_status", 1, 1, config={"max.message.bytes": "100"})
    admin.create_topics([small], operation_timeout=20)["feed_status"].result(30)
    with live_feed(kafka, tmp_path, RATE, 1) as feed:
        started_s = time.monotonic()
        producer = feed.produce(TAPELINE_FINNHUB__URL=f"ws://{LOOPBACK}:{free_port(0)}")
        assert producer.wait(20) == 6, feed.log_of(producer)

        assert time.monotonic() - started_s < 12
        assert "refuses a message for topic feed_status" in feed.log_of(producer)


def test_a_second_producer_with_the_same_key_is_refused_in_one_sentence(
    kafka: OwnKafka, tmp_path: Path
) -> None:
    with live_feed(kafka, tmp_path, 100, 600) as feed:
        first = feed.produce()
        feed.wait_until_delivers(first)
        second = feed.produce()
        assert second.wait(TIMEOUT_S) == 2, feed.log_of(second)

        (line,) = [x for x in feed.log_of(second).splitlines() if x.startswith("Error")]
        assert "Another producer is connected with this key" in line
        assert first.poll() is None
        first.terminate()
        assert first.wait(TIMEOUT_S) == 0


def trades_of(producer: ProducerPipeline) -> int:
    return producer.metrics.total(TRADES, outcome="accepted")


@pytest.mark.long
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_a_clock_that_is_an_hour_off_loses_nothing_and_makes_no_false_gap(
    kafka: OwnKafka, tmp_path: Path, ahead_s: float, *, steps: bool
) -> None:
    """The line is cut for two seconds in the middle: that is the one gap, in the right time.

    The clock is off from the start, or is set wrong three seconds later.
    """
    settings = load_settings().with_target(topic=TOPIC)
    create_topics(topic_admin(kafka.servers), settings.kafka)
    cut_us: list[int] = []

    async def run() -> ProducerPipeline:
        market = RandomMarket(1, int(time.time() * 1000), 100)
        port = free_port(0)
        simulator = SimulatedFinnhub(ServerOptions(LOOPBACK, port, TOKEN, 1.0), market)
        client = FinnhubClient(
            FinnhubSettings(url=f"ws://{LOOPBACK}:{port}"), SecretStr(TOKEN), market.symbols
        )
        wrong_from_s = time.monotonic() + (3 if steps else 0)
        clock = FeedClock(
            lambda: time.time() + (ahead_s if time.monotonic() >= wrong_from_s else 0)
        )
        origin = Origin("simulator", "me", "id")
        producer = ProducerPipeline(
            settings,
            origin,
            client,
            KafkaProducer(kafka.servers, TOPIC),
            Spools(Spool(tmp_path / "spool", 2**26)),
            gap_reporter(settings, origin, client.symbols, {}, clock=clock),
        )
        task = asyncio.create_task(producer.run())
        async with simulator.serve():
            await asyncio.to_thread(wait_for, lambda: trades_of(producer) > 0)
            await asyncio.sleep(6)
            cut_us.append(time.time_ns() // 1000)
        await asyncio.sleep(2)
        before = trades_of(producer)
        async with simulator.serve():
            await asyncio.to_thread(wait_for, lambda: trades_of(producer) > before)
            await asyncio.sleep(2)
            task.cancel()
            await asyncio.wait([task])
        return producer

    producer = asyncio.run(run())

    assert producer.metrics.total(DEAD_LETTERS) == 0
    trades = kafka.trades()
    assert len(trades) == trades_of(producer) > 100
    lags = [t.received_at_us - t.event_time_ms * 1000 for t in trades]
    assert min(lags) > -2 * SECOND_US
    assert max(lags) < 2 * SECOND_US
    ended = [gap for gap in kafka.gaps() if gap[1] is not None and gap[1] - gap[0] > 0]
    (gap,) = [g for g in ended if g[0] > cut_us[0] - 2 * SECOND_US]
    assert abs(gap[0] - cut_us[0]) < 2 * SECOND_US
    assert gap[1] is not None
    assert gap[1] - gap[0] > SECOND_US
    # It tried again after waits that are random, so how long it is the first trade tells.
    resumed_us = min(us for t in trades if (us := t.received_at_us) > gap[0] + SECOND_US)
    assert abs(gap[1] - resumed_us) < SECOND_US
    status = FeedStatus.from_bytes(kafka.messages("feed_status")[-1].value())
    assert status.clock_offset_s == pytest.approx(ahead_s, abs=2)
