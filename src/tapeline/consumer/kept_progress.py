"""Whether the keyspace still has the progress that this stream wrote.

A Cassandra that was killed or lost its power may have forgotten its last writes, though it had
acknowledged them. Spark's checkpoint has not: going on would leave a hole in silver.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tapeline.model.errors import StreamError
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import PartitionProgress


class KeptProgress:
    """Writes the progress of one topic, and notices when the keyspace has lost some of it.

    Progress is the last that a batch writes, so while it is there, so is what came before, on a
    Cassandra that syncs before it acknowledges (docs/adr/0013).

    Args:
        client: of the keyspace.
        topic_id: the topic's.
        on_loss: called when less is found, so that the next start knows.
    """

    def __init__(self, client: CassandraClient, topic_id: str, on_loss: Callable[[], None]) -> None:
        self._client = client
        self._topic_id = topic_id
        self._on_loss = on_loss
        self._written: dict[int, int] = {}

    def require(self) -> None:
        """Compare what was written with what is there.

        Raises:
            StreamError: the keyspace has less. The next start reads it again from Kafka.
        """
        # First what we know: it may grow while the answer is on its way.
        written = dict(self._written)
        if not written:
            return
        found = self._client.progress(self._topic_id)
        for partition, offset in written.items():
            kept = found[partition].committed_offset if partition in found else -1
            if kept < offset:
                self._on_loss()
                message = (
                    f"Cassandra has lost writes that it had acknowledged: partition {partition} "
                    f"was in silver up to offset {offset} and is there up to {kept}. Start the "
                    "stream again: it reads from Kafka what is lost."
                )
                raise StreamError(message)

    def write(self, progress: Collection[PartitionProgress]) -> None:
        """Raise the progress, unless earlier progress is lost.

        Raises:
            StreamError: the keyspace has less than was written before.
        """
        self.require()
        self._client.write_progress(self._topic_id, progress)
        for p in progress:
            before = self._written.get(p.kafka_partition, -1)
            self._written[p.kafka_partition] = max(before, p.committed_offset)
