"""From a round of finalizing to the metrics of the Spark job."""

from __future__ import annotations

import time

from tapeline.finalize.finalizer import RoundResult
from tapeline.model.bar import Interval
from tapeline.program.metrics import (
    DIFFERS,
    FINALIZED,
    FRESHNESS,
    FRONTIER,
    LAG,
    REVISED,
    STREAM_INCOMPLETE,
    Metrics,
)


def record_round(metrics: Metrics, result: RoundResult) -> None:
    """Count what a round finalized, and set how far the pipeline is."""
    metrics[FINALIZED].labels(interval=Interval.FIVE_MINUTES.value).inc(result.finalized_5m)
    metrics[FINALIZED].labels(interval=Interval.ONE_HOUR.value).inc(result.finalized_1h)
    metrics[REVISED].inc(result.revised)
    metrics[DIFFERS].inc(result.differs)
    metrics[STREAM_INCOMPLETE].inc(result.stream_incomplete)
    for partition, messages in result.unread.items():
        metrics[LAG].labels(partition=partition).set(messages)
    if result.frontier is not None:
        metrics[FRONTIER].set(result.frontier.timestamp())
    if result.newest_receipt is not None:
        received_s = result.newest_receipt.timestamp()
        metrics[FRESHNESS].set_function(lambda: time.time() - received_s)
