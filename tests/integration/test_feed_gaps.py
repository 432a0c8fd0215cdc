"""Gaps of the feed, from the producers' reports to the bars, on the real parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

from confluent_kafka import Producer
from prometheus_client import Gauge
from pydantic import SecretStr

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.model.bar import Interval
from tapeline.model.feed_status import FeedStatus
from tapeline.model.gap import Gap, GapKind
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.gap_reporter import gap_reporter
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.origin import Origin
from tapeline.producer.pipeline import ProducerPipeline
from tapeline.producer.previous_run import last_reports
from tapeline.producer.spool_folder import Spools
from tapeline.program.metrics import GAP_OPEN, GAPS, PENDING, TRADES, Metric, Metrics
from tapeline.simulator.faults import FaultyFeed, parse_faults
from tapeline.simulator.market import RandomMarket
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tests.commands import TIMEOUT_S
from tests.hand import TAPE
from tests.pipeline import TOKEN, Pipeline
from tests.statuses import a_status

NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)
EVENING = NOON + timedelta(hours=10)


def us(text: str) -> int:
    """Return a time of the day of the tape worked by hand, e.g. 14:36:00, in µs."""
    return int(datetime.fromisoformat(f"2024-03-15T{text}+00:00").timestamp() * 1_000_000)


class Reports:
    """Reports of live producers of symbol TEST, as Kafka would hold them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def alive(self, producer_id: str) -> None:
        status = a_status(
            producer_id,
            topic=self._pipeline.name,
            topic_id=self._pipeline.topic_id,
            symbols=("TEST",),
            is_live=True,
            started_us=us("12:00:00"),
            last_message_us=us("20:00:00"),
            end_of_tape=True,  # so that everything can be finalized at once
        )
        topic = self._pipeline.settings.kafka.status_topic
        self._send(topic, status.key, status.to_bytes())

    def gap(self, producer_id: str, started: str, ended: str | None) -> None:
        gap = Gap(
            producer_id,
            self._pipeline.name,
            self._pipeline.topic_id,
            GapKind.DISCONNECTED,
            ("TEST",),
            us(started),
            None if ended is None else us(ended),
            us(started),
        )
        self._send(self._pipeline.settings.kafka.gaps_topic, gap.key, gap.to_bytes())

    def _send(self, topic: str, key: str, value: bytes) -> None:
        producer = Producer({"bootstrap.servers": self._pipeline.endpoints.bootstrap_servers})
        producer.produce(topic, value, key)
        assert producer.flush(120) == 0


def completeness(pipeline: Pipeline, interval: Interval) -> dict[str, tuple[bool | None, int]]:
    """Return completeness and revision of the bars of TEST by the time of day."""
    return {
        f"{start:%H:%M}": (bar.is_complete, bar.revision)
        for (symbol, start), bar in pipeline.bars(interval).items()
        if symbol == "TEST"
    }


def test_a_gap_marks_the_bars_that_it_touches_before_and_after_they_are_final(
    pipeline: Pipeline,
) -> None:
    """TEST has bars at 14:30, 14:35, 14:40 and 16:30; their hours begin at 14:00 and 16:00."""
    pipeline.now = EVENING
    reports = Reports(pipeline)
    reports.alive("one")
    reports.gap("one", "14:36:00", "14:37:00")
    pipeline.send_tape(TAPE)
    pipeline.ingest()

    pipeline.finalize()
    at_first = completeness(pipeline, Interval.FIVE_MINUTES)
    reports.gap("one", "14:42:00", "16:31:00")
    revised = pipeline.finalize().revised
    later = completeness(pipeline, Interval.FIVE_MINUTES)
    again = pipeline.finalize().revised

    assert at_first == {
        "14:30": (True, 1),
        "14:35": (False, 1),
        "14:40": (True, 1),
        "16:30": (True, 1),
    }
    assert later == {
        "14:30": (True, 1),
        "14:35": (False, 1),
        "14:40": (False, 2),
        "16:30": (False, 2),
    }
    # The hour of 14:00 was incomplete from the first; that of 16:00 is now.
    assert completeness(pipeline, Interval.ONE_HOUR) == {"14:00": (False, 1), "16:00": (False, 2)}
    assert (revised, again) == (3, 0)
    reasons = {bar.reason for bar in pipeline.bars().values() if bar.revision == 2}
    assert reasons == {"feed_gap"}


def test_what_another_producer_covered_makes_a_bar_complete_again(pipeline: Pipeline) -> None:
    pipeline.now = EVENING
    reports = Reports(pipeline)
    reports.alive("one")
    reports.gap("one", "14:31:00", "14:41:00")
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.finalize()
    alone = completeness(pipeline, Interval.FIVE_MINUTES)

    reports.alive("two")
    reports.gap("two", "14:34:00", "14:36:00")
    pipeline.finalize()

    assert [complete for complete, _ in alone.values()] == [False, False, False, True]
    assert completeness(pipeline, Interval.FIVE_MINUTES) == {
        "14:30": (False, 1),
        "14:35": (False, 1),
        "14:40": (True, 2),
        "16:30": (True, 1),
    }


def test_gaps_are_kept_for_readers_and_their_end_is_not_lost(pipeline: Pipeline) -> None:
    reports = Reports(pipeline)
    reports.alive("one")
    for ended in (None, "14:40:00", None):
        reports.gap("one", "14:36:00", ended)
        pipeline.finalize()

    (found,) = pipeline.client.gaps(NOON, NOON + timedelta(hours=8))
    none = list(pipeline.client.gaps(NOON, NOON + timedelta(hours=2)))

    assert (found.started_us, found.ended_us) == (us("14:36:00"), us("14:40:00"))
    assert (found.kind, found.symbols) == (GapKind.DISCONNECTED, ("TEST",))
    assert none == []


def test_a_gap_is_read_with_the_end_that_became_known_after_the_time_asked_for(
    pipeline: Pipeline,
) -> None:
    """The producer was killed at 14:01 without its feed, and came back from 15:00 to 15:01."""
    killed = ("14:00:00", None, GapKind.DISCONNECTED, "14:00:30")
    came_back = ("14:59:00", "15:01:00", GapKind.STOPPED, "15:00:00")
    name, topic_id = pipeline.name, pipeline.topic_id
    pipeline.client.write_gaps(
        Gap(
            *("one", name, topic_id, kind, ("TEST",), us(started)),
            *(None if ended is None else us(ended), us(detected)),
        )
        for started, ended, kind, detected in (killed, came_back)
    )

    (found,) = pipeline.client.gaps(NOON, NOON + timedelta(hours=2, minutes=30))

    assert (found.kind, found.ended_us) == (GapKind.DISCONNECTED, us("15:01:00"))


def reported_to(pipeline: Pipeline) -> dict[str, FeedStatus]:
    servers = pipeline.endpoints.bootstrap_servers
    views = last_reports(servers, pipeline.settings.kafka, pipeline.topic_id).views
    return {name: view.status for name, view in views.items()}


def has_delivered(metrics: Metrics) -> bool:
    """Return whether trades were accepted and Kafka has all that there is."""
    return metrics.total(TRADES, outcome="accepted") > 0 and value(metrics, PENDING) == 0


def has_had_both(metrics: Metrics) -> bool:
    """Return whether a drop and a silence have begun, and are over."""
    begun = [
        metrics.total(GAPS, kind=kind.value) for kind in (GapKind.DISCONNECTED, GapKind.SILENT)
    ]
    return all(begun) and value(metrics, GAP_OPEN) == 0 and has_delivered(metrics)


def value(metrics: Metrics, gauge: Metric[Gauge]) -> float | None:
    return metrics.registry.get_sample_value(gauge.name)


def gaps_in_topic(
    pipeline: Pipeline, faults: Sequence[str], is_done: Callable[[Metrics], bool]
) -> list[Gap]:
    """Run simulator and producer until all is done; return what was reported of ended gaps."""

    async def run() -> None:
        market = RandomMarket(1, int(datetime.now(timezone.utc).timestamp() * 1000), 100)
        feed = FaultyFeed(market, parse_faults(faults), 1)
        port = free_port(0)
        server = SimulatedFinnhub(ServerOptions(LOOPBACK, port, TOKEN, 1.0), feed)
        finnhub = pipeline.settings.finnhub.model_copy(
            update={"url": f"ws://{LOOPBACK}:{port}", "heartbeat_timeout_s": 5.0}
        )
        settings = pipeline.settings.model_copy(update={"finnhub": finnhub})
        client = FinnhubClient(finnhub, SecretStr(TOKEN), feed.symbols)
        producer = KafkaProducer(pipeline.endpoints.bootstrap_servers, pipeline.name)
        spool = pipeline.spool("live")
        origin = Origin("simulator", "live", pipeline.topic_id)
        reported = reported_to(pipeline)
        gaps = gap_reporter(settings, origin, client.symbols, reported, spool.last_receipt_us)
        parts = ProducerPipeline(settings, origin, client, producer, Spools(spool), gaps)
        async with server.serve():
            task = asyncio.create_task(parts.run())
            while not is_done(parts.metrics):
                await asyncio.wait([task], timeout=0.1)
                assert not task.done(), task
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))
    pipeline.finalize()
    start = datetime.now(timezone.utc) - timedelta(hours=1)
    return list(pipeline.client.gaps(start, datetime.now(timezone.utc)))


MOST_LATE_US = 2_000_000


def test_a_drop_and_a_silence_are_recorded_from_the_last_trade_to_the_next(
    pipeline: Pipeline,
) -> None:
    """The line is down for three seconds, and later nothing comes for twelve."""
    drop, silence = gaps_in_topic(pipeline, ["drop=4s:3s", "silence=15s:12s"], has_had_both)
    pipeline.ingest()
    trades = pipeline.rows("trades_silver")
    receipts = sorted({micros(row["received_at"]) for row in trades})
    # On a slow machine the simulated feed is later than it means to be.
    late_us = max(micros(row["received_at"]) - micros(row["event_time"]) for row in trades)
    most_late_us = max(MOST_LATE_US, 3 * late_us)

    assert (drop.kind, silence.kind) == (GapKind.DISCONNECTED, GapKind.SILENT)
    for gap, least_s in ((drop, 3), (silence, 12)):
        assert gap.ended_us is not None
        # Cassandra keeps milliseconds.
        before = [r for r in receipts if r < gap.ended_us - 1000]
        after = [r for r in receipts if r >= gap.ended_us - 1000]
        # Earlier than the last receipt by what the simulated feed is late, and no more.
        assert -1000 <= before[-1] - gap.started_us <= most_late_us
        assert after[0] - gap.ended_us <= 1000
        assert gap.ended_us - gap.started_us >= least_s * 1_000_000 - 200_000


def micros(naive: datetime) -> int:
    return round(naive.replace(tzinfo=timezone.utc).timestamp() * 1_000_000)


def test_a_producer_that_comes_back_reports_the_time_between(pipeline: Pipeline) -> None:
    gaps_in_topic(pipeline, [], has_delivered)
    (found,) = gaps_in_topic(pipeline, [], has_delivered)

    status = reported_to(pipeline)["live"]
    assert (status.has_stopped, status.pending) == (True, 0)
    assert found.kind is GapKind.STOPPED
    assert found.ended_us is not None
    assert found.ended_us > found.started_us
