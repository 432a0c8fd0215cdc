"""Where rows go: Cassandra's tables, or the console."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, Protocol

from pyspark.sql import DataFrame

from tapeline.consumer.layers import TTL, WRITE_TIME
from tapeline.model.bar import Bar, Interval
from tapeline.storage.bar_rows import GOLD_TABLES
from tapeline.storage.cassandra_client import CassandraClient

_CASSANDRA_FORMAT: Final = "org.apache.spark.sql.cassandra"
_CONSOLE_ROWS: Final = 20


class Sink(Protocol):
    """Takes the rows of one table; writing the same rows again must change nothing."""

    @property
    def client(self) -> CassandraClient | None:
        """The client of the keyspace where rows go; None where it is none."""
        ...

    def write(self, table: str, rows: DataFrame) -> None:
        """Write rows; return when they are durable."""
        ...

    def write_bars(self, interval: Interval, bars: Sequence[tuple[Bar, int]]) -> None:
        """Write provisional bars, each with its write time in µs; as `write`."""
        ...


class CassandraSink:
    """Upserts into the tables of one keyspace: trades in the JVM, bars by the client.

    Delivery: at least once; the primary key and the rows' own write times make repetitions
    invisible. A failure raises, and the micro-batch is run again from its checkpoint.
    Bars are written whole, so that a null clears what stood there; in rows of trades a null is
    left out and makes no tombstone.
    """

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    @property
    def client(self) -> CassandraClient:
        """The client of the keyspace."""
        return self._client

    def write(self, table: str, rows: DataFrame) -> None:
        """Upsert rows whose columns are the table's, with `write_time_us` and perhaps `ttl_s`."""
        lifetime = {"ttl": TTL} if TTL in rows.columns else {}
        (
            rows.write.format(_CASSANDRA_FORMAT)
            .mode("append")
            .options(keyspace=self._client.keyspace, table=table, writetime=WRITE_TIME, **lifetime)
            .option("spark.cassandra.output.ignoreNulls", "true")
            .save()
        )

    def write_bars(self, interval: Interval, bars: Sequence[tuple[Bar, int]]) -> None:
        """Upsert whole bars, each with its write time in µs."""
        self._client.write_bars(interval, bars)


class ConsoleSink:
    """Prints rows, for trying a job out. Nothing is kept; repetitions are printed again."""

    client = None

    def write(self, table: str, rows: DataFrame) -> None:
        """Print the first rows under the table's name."""
        print(f"-- {table}")  # noqa: T201 - the console is the sink
        rows.drop(WRITE_TIME, "message", "message_key").show(_CONSOLE_ROWS, truncate=False)
        # Into a pipe Python would keep the rows back, perhaps for hours.
        sys.stdout.flush()

    def write_bars(self, interval: Interval, bars: Sequence[tuple[Bar, int]]) -> None:
        """Print the first bars under their table's name."""
        lines = [f"-- {GOLD_TABLES[interval]}"]
        lines += [
            f"{bar.symbol} {bar.window_start:%Y-%m-%dT%H:%MZ} open={bar.open} high={bar.high} "
            f"low={bar.low} close={bar.close} volume={bar.volume:f} trades={bar.trade_count}"
            for bar, _ in bars[:_CONSOLE_ROWS]
        ]
        print("\n".join(lines), flush=True)  # noqa: T201 - the console is the sink


def read_table(rows: DataFrame, keyspace: str, table: str) -> DataFrame:
    """Return a table to join with, looked up by key for each row of a small DataFrame.

    Args:
        rows: gives the session; the small side of the join that follows.
        keyspace: of the table.
        table: its name.
    """
    return (
        rows.sparkSession.read.format(_CASSANDRA_FORMAT)
        .options(keyspace=keyspace, table=table, directJoinSetting="on")
        .load()
    )
