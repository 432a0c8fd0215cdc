"""The Cassandra client: one keyspace's schema, bars, windows and progress, and its counts.

Times are UTC; the driver hands out and takes naive datetimes, which become aware ones here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from tapeline.model.errors import SchemaError
from tapeline.storage.bar_tables import BarTables
from tapeline.storage.connection import RepeatingPolicy
from tapeline.storage.rows import BUCKET_OFFSETS
from tapeline.storage.schema import apply_schema, drop_keyspace, missing_columns
from tapeline.storage.topic_tables import TopicTables
from tapeline.storage.window_tables import WindowTables

__all__ = ["CassandraClient", "RepeatingPolicy"]

_COUNTS_AT_ONCE: Final = 2
"""A count of messages reads a partition of up to 100,000; a busy node has no time for more."""


class CassandraClient(BarTables, TopicTables, WindowTables):
    """Reads and writes of one keyspace; a `with` statement closes it at its end.

    Requests raise the driver's errors; connecting raises ServiceUnavailableError.
    """

    def __enter__(self) -> CassandraClient:  # noqa: PYI034 - Python 3.10 has no Self
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    def create_schema(self) -> None:
        """Create or alter the keyspace and its tables; harmless when they are right.

        Raises:
            UsageError: a default would take something away; nothing is changed.
        """
        apply_schema(self._session, self._settings)

    def drop_schema(self) -> None:
        """Drop the keyspace with everything in it.

        Raises:
            SchemaError: it holds tables that are not Tapeline's.
        """
        known = self._cluster.metadata.keyspaces.get(self._keyspace)
        if known is not None and known.tables and "ingest_progress" not in known.tables:
            message = f"Keyspace {self._keyspace} is not Tapeline's: it is not emptied."
            raise SchemaError(message)
        drop_keyspace(self._session, self._keyspace)

    def require_schema(self) -> None:
        """Check that the tables are there.

        Raises:
            SchemaError: they are not.
        """
        known = self._cluster.metadata.keyspaces.get(self._keyspace)
        if known is None or "ingest_progress" not in known.tables:
            lacking = "has no tables of Tapeline: create them"
        elif any(missing_columns(known)):
            lacking = "has tables of an earlier version: complete them"
        else:
            return
        init = f"tapeline init --keyspace {self._keyspace}"
        message = f"Keyspace {self._keyspace} {lacking} with `{init}`."
        raise SchemaError(message)

    def count_messages(self, table: str, topic_id: str, committed: Mapping[int, int]) -> int:
        """Count the rows of bronze or quarantine below the committed offset of each partition."""
        if table not in {"trades_bronze", "trades_quarantine"}:
            raise ValueError(table)
        query = (
            f"SELECT count(*) AS n FROM {{keyspace}}.{table} "
            "WHERE topic_id = ? AND kafka_partition = ? AND bucket = ?"
        )
        arguments = [
            (topic_id, partition, bucket)
            for partition, offset in committed.items()
            for bucket in range(offset // BUCKET_OFFSETS + 1)
        ]
        return sum(rows.one().n for rows in self.run(query, arguments, _COUNTS_AT_ONCE))

    def count_silver(self, windows: Iterable[tuple[str, datetime]]) -> int:
        """Count the trades of the given (symbol, window_start)."""
        query = "SELECT count(*) AS n FROM {keyspace}.trades_silver WHERE symbol = ? AND bucket = ?"
        return sum(rows.one().n for rows in self.run(query, list(windows)))
