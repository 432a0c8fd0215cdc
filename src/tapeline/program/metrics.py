"""Every metric, in one typed list, and the registry that one process keeps of its own.

A `Metric` only describes; `Metrics` holds the counters, gauges and histograms themselves. One
is made where a process is put together and handed to its parts, as the clock is, so that
nothing is shared between two of them in one process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, Generic, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from tapeline.model.bar import Interval
from tapeline.model.gap import GapKind
from tapeline.model.reasons import Reason
from tapeline.program.memory import resident_bytes

_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)

_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of a duration."""


@dataclass(frozen=True, slots=True)
class Metric(Generic[_Kind]):
    """What is measured, and how.

    `labels` maps each label to the values that are known beforehand: those are exported from
    the start, at 0. A gauge without labels is NaN until it is first set.
    """

    name: str
    kind: type[_Kind]
    unit: str
    meaning: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


STARTED: Final = Metric(
    "tapeline_process_start_timestamp_seconds",
    Gauge,
    "Unix time",
    "When the process began to count: its counters were 0 then.",
)
MEMORY: Final = Metric(
    "tapeline_process_memory_bytes",
    Gauge,
    "bytes",
    "Memory that the process takes, and with it what it has started, as Spark's Java.",
)

PROCESS_METRICS: Final[Sequence[Metric[Any]]] = (STARTED, MEMORY)
"""What each process exports beside its own."""

_REASONS: Final = {"reason": [reason.value for reason in Reason]}

FRAMES: Final = Metric(
    "tapeline_producer_frames_total",
    Counter,
    "frames",
    "Messages that the feed has sent, pings among them.",
)
TRADES: Final = Metric(
    "tapeline_producer_trades_total",
    Counter,
    "trades",
    "Trades that the feed has sent: accepted ones go to Kafka, rejected ones are dead letters.",
    {"outcome": ["accepted", "rejected"]},
)
DEAD_LETTERS: Final = Metric(
    "tapeline_producer_dead_letters_total",
    Counter,
    "trades, frames",
    "Faulty trades, and frames that are faulty as a whole: they go to the dead-letter topic.",
    _REASONS,
)
SUSPECT_DUPLICATES: Final = Metric(
    "tapeline_producer_suspect_duplicates_total",
    Counter,
    "trades",
    "Accepted trades in frames of one trade, or of equal ones, that equal one received just "
    "before. They are real twins or came again, and are kept.",
)
HEALED: Final = Metric(
    "tapeline_producer_healed_total",
    Counter,
    "trades",
    "Trades that were missed, and fetched from the exchange's history since.",
)
REDELIVERED: Final = Metric(
    "tapeline_producer_redelivered_total",
    Counter,
    "trades",
    "Accepted trades of frames that the feed sent again within minutes. Each counts once.",
)
UNKNOWN_CONDITIONS: Final = Metric(
    "tapeline_producer_unknown_conditions_total",
    Counter,
    "trades",
    "Accepted trades with a sale condition that the policy does not name: they set no price unless "
    "the policy says otherwise, as all does.",
)
CONNECTED: Final = Metric(
    "tapeline_producer_connected", Gauge, "0 or 1", "Whether a connection to the feed stands."
)
RECONNECTS: Final = Metric(
    "tapeline_producer_reconnects_total",
    Counter,
    "attempts",
    "Attempts to connect to the feed again, after a connection or an attempt was lost.",
)
GAPS: Final = Metric(
    "tapeline_producer_gaps_total",
    Counter,
    "gaps",
    "Gaps of the feed that have begun, by their kind. A frame that cannot be read, and damage of "
    "the spool, are dropped; a symbol that is silent while others are not marks no bars.",
    {"kind": [kind.value for kind in GapKind if kind is not GapKind.UNKNOWN]},
)
GAP_OPEN: Final = Metric(
    "tapeline_producer_gap_open",
    Gauge,
    "0 or 1",
    "Whether a gap lasts that marks bars: there is no connection, or one without trades while a "
    "market is open. A tape has none.",
)
WITHOUT_SLOT: Final = Metric(
    "tapeline_producer_symbols_without_slot",
    Gauge,
    "symbols",
    "Symbols that the feed refuses: above its cap, or not known to it. feed_status names them.",
)
PENDING: Final = Metric(
    "tapeline_producer_pending_trades",
    Gauge,
    "trades",
    "Accepted trades, dead letters and gaps that Kafka has not acknowledged yet, those in the "
    "spool among them.",
)
NEWEST_RECEIPT: Final = Metric(
    "tapeline_producer_newest_receipt_timestamp_seconds",
    Gauge,
    "Unix time",
    "When the newest frame with an accepted trade was received.",
)

SPOOL_BYTES: Final = Metric(
    "tapeline_producer_spool_bytes",
    Gauge,
    "bytes",
    "Disk that the spool takes; at TAPELINE_SPOOL__MAX_MB the producer stops.",
)
SPOOL_LIMIT: Final = Metric(
    "tapeline_producer_spool_limit_bytes",
    Gauge,
    "bytes",
    "Disk that the spool may take, which is TAPELINE_SPOOL__MAX_MB.",
)
SPOOL_HOLES: Final = Metric(
    "tapeline_producer_spool_holes_total",
    Counter,
    "holes",
    "Times that the spool could not read what Kafka does not have, since its files are damaged. "
    "Each is a gap.",
)
CLOCK_WRONG: Final = Metric(
    "tapeline_producer_clock_wrong",
    Gauge,
    "0 or 1",
    "Whether the host's clock is more than a minute off the feed's time.",
)
CLOCK_OFFSET: Final = Metric(
    "tapeline_producer_clock_offset_seconds",
    Gauge,
    "seconds",
    "How far the host's clock is ahead of the feed's time; below 0 it is behind.",
)

PRODUCER_METRICS: Final[Sequence[Metric[Any]]] = (
    FRAMES,
    TRADES,
    DEAD_LETTERS,
    SUSPECT_DUPLICATES,
    HEALED,
    REDELIVERED,
    UNKNOWN_CONDITIONS,
    CONNECTED,
    RECONNECTS,
    GAPS,
    GAP_OPEN,
    WITHOUT_SLOT,
    PENDING,
    NEWEST_RECEIPT,
    SPOOL_BYTES,
    SPOOL_LIMIT,
    SPOOL_HOLES,
    CLOCK_WRONG,
    CLOCK_OFFSET,
)
"""What `tapeline produce` exports."""

MESSAGES: Final = Metric(
    "tapeline_stream_messages_total",
    Counter,
    "messages",
    "Messages of the topic that were written to bronze, silver or both.",
)
QUARANTINED: Final = Metric(
    "tapeline_stream_quarantined_total",
    Counter,
    "messages",
    "Messages that are no valid trade, kept in trades_quarantine.",
    _REASONS,
)
POISON_SHARE: Final = Metric(
    "tapeline_stream_poison_share",
    Gauge,
    "0 to 1",
    "Share of messages that are no valid trade among the newest, 1,000 at least; above the "
    "setting the job stops.",
)
BATCH_DURATION: Final = Metric(
    "tapeline_stream_batch_duration_seconds",
    Histogram,
    "seconds",
    "Time that the rows of a micro-batch took, from Kafka to Cassandra, by streaming query.",
    {"query": []},
)
LAG: Final = Metric(
    "tapeline_stream_lag_messages",
    Gauge,
    "messages",
    "Messages that a Kafka partition holds and silver does not, at the last round of finalizing.",
    {"partition": []},
)
FRESHNESS: Final = Metric(
    "tapeline_stream_freshness_seconds",
    Gauge,
    "seconds",
    "Time since Kafka received the newest valid trade that is committed to silver. It grows "
    "while no trades come.",
)
FINALIZED: Final = Metric(
    "tapeline_finalize_bars_total",
    Counter,
    "bars",
    "Bars that were recomputed from silver, by interval.",
    {"interval": [interval.value for interval in Interval]},
)
REVISED: Final = Metric(
    "tapeline_finalize_revised_total",
    Counter,
    "bars",
    "Bars that were final and came out otherwise, since trades came later than the watermark.",
)
DIFFERS: Final = Metric(
    "tapeline_finalize_differs_total",
    Counter,
    "bars",
    "Five-minute bars whose preview had every trade and other values: a fault in Tapeline.",
)
STREAM_INCOMPLETE: Final = Metric(
    "tapeline_finalize_stream_incomplete_total",
    Counter,
    "bars",
    "Five-minute bars whose preview lacked trades when they were finalized.",
)
FRONTIER: Final = Metric(
    "tapeline_finalize_frontier_timestamp_seconds",
    Gauge,
    "Unix time",
    "Event time up to which every active Kafka partition is committed to silver. Bars are final "
    "when it is past their end by the watermark. In a quiet market it keeps its last value.",
)
ROUND_DURATION: Final = Metric(
    "tapeline_finalize_round_duration_seconds",
    Histogram,
    "seconds",
    "Time that a round of finalizing took, rounds that found nothing due among them.",
)

STREAM_METRICS: Final[Sequence[Metric[Any]]] = (
    MESSAGES,
    QUARANTINED,
    POISON_SHARE,
    BATCH_DURATION,
    LAG,
    FRESHNESS,
    FINALIZED,
    REVISED,
    DIFFERS,
    STREAM_INCOMPLETE,
    FRONTIER,
    ROUND_DURATION,
)
"""What `tapeline stream` exports."""


API_REQUESTS: Final = Metric(
    "tapeline_api_requests_total",
    Counter,
    "requests",
    "Requests that were answered, by the route's pattern (none: there is no such path, or the "
    "request was refused) and status.",
    {"route": [], "status": []},
)
API_DURATION: Final = Metric(
    "tapeline_api_request_duration_seconds",
    Histogram,
    "seconds",
    "Time to a whole answer, by the route's pattern; streams are left out.",
    {"route": []},
)
LISTENERS: Final = Metric("tapeline_api_listeners", Gauge, "streams", "Open streams of live bars.")
LISTENERS_CUT: Final = Metric(
    "tapeline_api_listeners_cut_total",
    Counter,
    "streams",
    "Streams that were cut off since their clients did not keep up.",
)
API_REFUSED: Final = Metric(
    "tapeline_api_refused_total",
    Counter,
    "requests, streams",
    "What was refused: without a key or with a wrong one; a WebSocket of a page of another origin; "
    "above a client's limit of requests, or of streams; above the streams of all.",
    {"reason": ["no_key", "wrong_key", "origin", "requests", "streams", "all_streams"]},
)
STORE_READS: Final = Metric(
    "tapeline_api_store_reads_total",
    Counter,
    "reads",
    "Reads of Cassandra, by what came of them.",
    {"outcome": ["ok", "failed"]},
)
LIVE_UP: Final = Metric(
    "tapeline_api_live_up",
    Gauge,
    "0 or 1",
    "Whether open bars come from the log of trades. If not, that is behind or Kafka is away, and "
    "they come from the tables.",
)
LIVE_TRADES: Final = Metric(
    "tapeline_api_live_trades_total",
    Counter,
    "trades",
    "Trades that came from the log, of symbols that somebody listens to.",
)
LIVE_TRADES_HELD: Final = Metric(
    "tapeline_api_live_trades_held",
    Gauge,
    "trades",
    "Trades of open bars whose ids are remembered, some 130 bytes each.",
)

API_METRICS: Final[Sequence[Metric[Any]]] = (
    API_REQUESTS,
    API_DURATION,
    LISTENERS,
    LISTENERS_CUT,
    API_REFUSED,
    STORE_READS,
    LIVE_UP,
    LIVE_TRADES,
    LIVE_TRADES_HELD,
)
"""What `tapeline api` exports."""


class Metrics:
    """The values of some metrics, in a registry of their own.

    Args:
        listed: what this process exports, beside what each one does.
    """

    def __init__(self, listed: Sequence[Metric[Any]]) -> None:
        # When a series began is no metric of ours, and would double what is exported.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        exported = [*listed, *PROCESS_METRICS]
        self._collectors = {metric.name: self._collector(metric) for metric in exported}
        self[STARTED].set(time.time())
        self[MEMORY].set_function(resident_bytes)

    def __getitem__(self, metric: Metric[_Kind]) -> _Kind:
        """Return the counter, gauge or histogram of a metric."""
        return cast("_Kind", self._collectors[metric.name])

    def total(self, metric: Metric[Counter], **labels: str) -> int:
        """Return what a counter has counted, over all its series that have these labels."""
        return sum(
            int(sample.value)
            for family in self[metric].collect()
            for sample in family.samples
            if labels.items() <= sample.labels.items()
        )

    def _collector(self, metric: Metric[Any]) -> Counter | Gauge | Histogram:
        options = {"buckets": _SECONDS} if metric.kind is Histogram else {}
        collector: Counter | Gauge | Histogram = metric.kind(
            metric.name, metric.meaning, list(metric.labels), registry=self.registry, **options
        )
        if metric.labels:
            for values in product(*metric.labels.values()):
                collector.labels(*values)
        elif isinstance(collector, Gauge):
            collector.set(math.nan)
        return collector
