"""What a micro-batch touched, from the rows of `layers.touched_windows`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime

from pyspark.sql import Row

from tapeline.storage.rows import PartitionProgress, WindowState
from tapeline.times import from_micros


def dirty_windows(topic_id: str, touched: Iterable[Row]) -> list[WindowState]:
    """Return the state of each window that valid trades touched, not settled yet."""
    return [
        WindowState(
            topic_id,
            row["kafka_partition"],
            row["bucket"],
            from_micros(row["window_start_us"]),
            row["symbol"],
            dirty_offset=row["highest_offset"],
        )
        for row in touched
        if row["reason"] is None
    ]


def progress_of(touched: Iterable[Row]) -> list[PartitionProgress]:
    """Return how far each partition got: its highest offset and newest valid times."""
    by_partition: dict[int, list[Row]] = defaultdict(list)
    for row in touched:
        by_partition[row["kafka_partition"]].append(row)
    return [
        PartitionProgress(
            partition,
            committed_offset=max(row["highest_offset"] for row in rows),
            newest_event_time=_newest(rows, "newest_event_us"),
            newest_received_at=_newest(rows, "newest_received_us"),
        )
        for partition, rows in by_partition.items()
    ]


def invalid_messages(touched: Iterable[Row]) -> Counter[str]:
    """Return how many messages are no valid trade, by reason."""
    invalid: Counter[str] = Counter()
    for row in touched:
        if row["reason"] is not None:
            invalid[row["reason"]] += row["messages"]
    return invalid


def _newest(rows: Iterable[Row], column: str) -> datetime | None:
    micros = [row[column] for row in rows if row["reason"] is None]
    return from_micros(max(micros)) if micros else None
