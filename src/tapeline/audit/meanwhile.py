"""What came while an audit runs: trades that the stream stores beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tapeline.audit.engine import query
from tapeline.audit.messages import sort_messages
from tapeline.audit.tables import TRADE_KEYS
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.messages import BUCKET_OFFSETS
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, Partition

_ROWS_OF: Final = """
    SELECT * FROM silver SEMI JOIN trades USING (symbol, bucket_ms, event_time_ms, trade_id)
"""


class Meanwhile:
    """The trades that bronze got after an audit had begun.

    Bronze is written before silver, so whatever silver is found to hold of them, bronze has.

    Args:
        client: reads bronze, and how far each partition is.
        committed: the highest offset of each partition that was in silver at the beginning.
    """

    def __init__(self, client: CassandraClient, committed: Mapping[Partition, int]) -> None:
        self._client = client
        self._next = {partition: offset + 1 for partition, offset in committed.items()}
        self._known = [TRADE_KEYS.empty_table()]

    def rows_of(self, silver: pa.Table) -> pa.Table:
        """Return the rows of silver, read before, of which a copy has come meanwhile."""
        # Above these lies a batch under way, whose rows come in any order.
        committed = self._client.committed_offsets()
        under_way = []
        for topic_id, partition, bucket in self._client.bronze_buckets():
            last = committed.get((topic_id, partition), -1)
            for trades in self._trades(topic_id, partition, bucket):
                is_committed = pc.field("kafka_offset") <= last
                self._known.append(_keys(trades.filter(is_committed)))
                under_way.append(_keys(trades.filter(~is_committed)))
        self._next.update((key, offset + 1) for key, offset in committed.items())
        return query(_ROWS_OF, silver=silver, trades=pa.concat_tables(self._known + under_way))

    def _trades(self, topic_id: str, partition: int, bucket: int) -> Iterator[pa.Table]:
        """Yield the trades of a bucket of bronze that have not been read yet."""
        start = max(self._next.get((topic_id, partition), 0), bucket * BUCKET_OFFSETS)
        stop = (bucket + 1) * BUCKET_OFFSETS
        ranges = [
            (some, min(some + WINDOW_BUCKET_OFFSETS, stop))
            for some in range(start, stop, WINDOW_BUCKET_OFFSETS)
        ]
        for messages in self._client.bronze(topic_id, partition, ranges):
            if messages:
                yield sort_messages(topic_id, partition, messages).trades


def _keys(trades: pa.Table) -> pa.Table:
    return trades.select(TRADE_KEYS.names).cast(TRADE_KEYS)
