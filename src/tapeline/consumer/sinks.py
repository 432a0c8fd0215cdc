"""Where rows go: Cassandra's tables, or the console."""

from __future__ import annotations

import sys
from typing import Final, Protocol

from pyspark.sql import DataFrame

from tapeline.consumer.layers import TTL, WRITE_TIME

_CASSANDRA_FORMAT: Final = "org.apache.spark.sql.cassandra"
_WHOLE_ROWS: Final = frozenset({"trades_gold_1m", "trades_gold_5m"})
_CONSOLE_ROWS: Final = 20


class Sink(Protocol):
    """Takes the rows of one table; writing the same rows again must change nothing."""

    def write(self, table: str, rows: DataFrame) -> None:
        """Write rows; return when they are durable."""
        ...


class CassandraSink:
    """Upserts into the tables of one keyspace, in the JVM.

    Delivery: at least once; the primary key and the rows' own write times make repetitions
    invisible. A failure raises, and the micro-batch is run again from its checkpoint.
    Bars are written whole, so that a null clears what stood there; elsewhere a null is left
    out and makes no tombstone.
    """

    def __init__(self, keyspace: str) -> None:
        self._keyspace = keyspace

    def write(self, table: str, rows: DataFrame) -> None:
        """Upsert rows whose columns are the table's, with `write_time_us` and perhaps `ttl_s`."""
        lifetime = {"ttl": TTL} if TTL in rows.columns else {}
        (
            rows.write.format(_CASSANDRA_FORMAT)
            .mode("append")
            .options(keyspace=self._keyspace, table=table, writetime=WRITE_TIME, **lifetime)
            .option("spark.cassandra.output.ignoreNulls", str(table not in _WHOLE_ROWS).lower())
            .save()
        )


class ConsoleSink:
    """Prints rows, for trying a job out. Nothing is kept; repetitions are printed again."""

    def write(self, table: str, rows: DataFrame) -> None:
        """Print the first rows under the table's name."""
        print(f"-- {table}")  # noqa: T201 - the console is the sink
        rows.drop(WRITE_TIME, "message", "message_key").show(_CONSOLE_ROWS, truncate=False)
        # Into a pipe Python would keep the rows back, perhaps for hours.
        sys.stdout.flush()


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
