"""Windows as a small DataFrame, made in the JVM.

PySpark's `createDataFrame` of Python objects starts Python workers, which costs more than the rest
and fails where `python3` on the PATH is of another minor version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from tapeline.model.bar import WindowKey
from tapeline.model.times import to_micros

_SCHEMA: Final = "array<struct<symbol:string,us:bigint>>"


def window_keys(session: SparkSession, keys: Sequence[WindowKey], start: str) -> DataFrame:
    """Return windows, spread over the tasks that the session runs at once.

    Args:
        session: makes it.
        keys: symbol and start of each window; some thousands at most, since they are part of
            the plan.
        start: name of the column of starts, beside `symbol`.
    """
    tasks = max(1, min(session.sparkContext.defaultParallelism, len(keys)))
    parts = F.array(*(F.lit(_as_json(keys[task::tasks])) for task in range(tasks)))
    part = F.element_at(parts, (F.col("id") + 1).cast("int"))
    rows = session.range(0, tasks, 1, tasks).select(F.inline(F.from_json(part, _SCHEMA)))
    return rows.select("symbol", F.timestamp_micros("us").alias(start))


def _as_json(keys: Sequence[WindowKey]) -> str:
    return orjson.dumps([{"symbol": s, "us": to_micros(start)} for s, start in keys]).decode()
