"""What a rebuild touched, from the rows of `layers.touched_windows`."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Row

from tapeline.model.times import from_micros
from tapeline.storage.rows import WindowState


def dirty_windows(topic_id: str, touched: Iterable[Row]) -> list[WindowState]:
    """Return the state of each window, not settled yet."""
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
    ]
