"""One batch of a topic through the product's own functions, step by step: lines of JSON.

A process of its own, so that it has a JVM of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the usual name

from bench.cpu import usage_of

_GONE: Final = (ImportError, AttributeError, TypeError)
"""What a function raises that has another name or other arguments in the version measured."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A topic as a DataFrame, and where its rows go."""

    session: SparkSession
    messages: DataFrame
    topic_id: str
    keyspace: str

    def parsed(self) -> DataFrame:
        """Return the decoded messages."""
        from tapeline.consumer.transformations import parse_trade_from_avro  # noqa: PLC0415

        return parse_trade_from_avro(self.messages)

    def valid(self) -> DataFrame:
        """Return the valid trades."""
        return self.parsed().where(F.col("reason").isNull())


def read(batch: Batch) -> None:
    """Read every byte of the topic."""
    _consume(batch.messages)


def decode(batch: Batch) -> None:
    """Decode, and throw away."""
    _consume(batch.parsed())


def persist(batch: Batch) -> None:
    """Decode, and keep for several actions."""
    kept = batch.parsed().persist()
    try:
        _consume(kept)
    finally:
        kept.unpersist(blocking=True)


def affected(batch: Batch) -> None:
    """Work out which windows the batch touches."""
    from tapeline.consumer.layers import affected_windows  # noqa: PLC0415

    affected_windows(batch.parsed()).collect()


def bars_of(policy: str, *, once: bool = False) -> Callable[[Batch], int]:
    """Return the step that aggregates bars; `once` drops copies first."""

    def aggregate(batch: Batch) -> int:
        from tapeline.consumer.transformations import apply_watermark, calculate_ohlcv  # noqa: PLC0415
        from tapeline.model.conditions import SHIPPED  # noqa: PLC0415

        trades = apply_watermark(batch.valid(), 600) if once else batch.valid()
        bars = calculate_ohlcv(trades, SHIPPED[policy])
        # Every column is worked out, as it is when bars are written.
        columns = F.hash(*(c for c in bars.columns if c != "trade_count"))
        row = bars.select(F.sum("trade_count"), F.count(columns)).collect()[0]
        return int(row[0])

    return aggregate


def write_silver(batch: Batch) -> None:
    """Write the trades."""
    from tapeline.consumer.layers import silver_rows  # noqa: PLC0415
    from tapeline.consumer.sinks import CassandraSink  # noqa: PLC0415

    rows = silver_rows(batch.parsed())
    CassandraSink(batch.keyspace).write("trades_silver", rows)


def write_bronze(batch: Batch) -> None:
    """Write the messages."""
    from tapeline.consumer.layers import bronze_rows  # noqa: PLC0415
    from tapeline.consumer.sinks import CassandraSink  # noqa: PLC0415

    rows = bronze_rows(batch.parsed(), batch.topic_id)
    CassandraSink(batch.keyspace).write("trades_bronze", rows)


STEPS: Final[dict[str, Callable[[Batch], int | None]]] = {
    "read Kafka": read,
    "and decode": decode,
    "and persist": persist,
    "decode, affected windows": affected,
    "decode, bars, policy all": bars_of("all"),
    "decode, bars, policy sip": bars_of("sip"),
    "decode, bars, policy sip+oddlot": bars_of("sip+oddlot"),
    "decode, dedupe, bars, sip+oddlot": bars_of("sip+oddlot", once=True),
    "decode, write silver": write_silver,
    "decode, write bronze": write_bronze,
}


def _consume(rows: DataFrame) -> None:
    rows.write.format("noop").mode("overwrite").save()


def measure(
    name: str, step: Callable[[Batch], int | None], batch: Batch, options: argparse.Namespace
) -> dict[str, Any]:
    """Run one step; return its cost."""
    before = usage_of(os.getpid()), usage_of(options.cassandra_pid)
    began_s = time.monotonic()
    counted, missing = None, False
    try:
        counted = step(batch)
    except _GONE as error:
        missing = True
        print(f"{name}: {error!r}")
    seconds = time.monotonic() - began_s
    after = usage_of(os.getpid()), usage_of(options.cassandra_pid)
    spark, cassandra = (
        (b.cpu_s - a.cpu_s) / options.messages * 1e6 for a, b in zip(before, after, strict=True)
    )
    return {
        "step": name,
        "seconds": seconds,
        "spark_cpu_s_per_million": spark,
        "cassandra_cpu_s_per_million": cassandra,
        "counted": counted,
        "missing": missing,
    }


def main() -> None:
    """Read the options; run all steps several times."""
    from tapeline.consumer.session import build_session  # noqa: PLC0415
    from tapeline.local.discovery import find_endpoints  # noqa: PLC0415
    from tapeline.program.settings import load_settings  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--topic-id", required=True)
    parser.add_argument("--keyspace", required=True)
    parser.add_argument("--cassandra-pid", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args()
    settings = load_settings().with_target(keyspace=options.keyspace)
    endpoints = find_endpoints(settings)
    session = build_session(settings, endpoints)
    messages = (
        session.read.format("kafka")
        .option("kafka.bootstrap.servers", endpoints.bootstrap_servers)
        .option("subscribe", options.topic)
        .load()
    )
    batch = Batch(session, messages, options.topic_id, options.keyspace)
    for run in range(1, options.runs + 1):
        for name, step in STEPS.items():
            print(json.dumps({**measure(name, step, batch, options), "run": run}), flush=True)
    session.stop()


if __name__ == "__main__":
    main()
