"""What becomes of a checkpoint before its query starts: it goes on or starts over.

A query that starts over reads its topic again onto the same keys, so it costs time and changes
no bar. `docs/checkpoints.md` has the table. What would lose trades or mix two keyspaces is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import structlog

from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoint_log import CheckpointLog
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.spark_processor import INGEST_QUERY, PREVIEW_QUERY, Layer, Topic
from tapeline.kafka.feed_view import FeedView
from tapeline.model.errors import SchemaError
from tapeline.program.settings import Settings
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import PartitionProgress

log = structlog.get_logger()

_SILVER_QUERIES: Final = frozenset({INGEST_QUERY, Layer.SILVER.value})

Offsets = Mapping[int, tuple[int, int]]
"""The oldest and the next offset of each Kafka partition."""


def prepare_checkpoint(
    checkpoints: Checkpoints,
    query: str,
    settings: Settings,
    topic: Topic,
    feed: FeedView,
    client: CassandraClient | None,
) -> Topic:
    """Make the checkpoint of a job's query fit to go on with; return where to begin.

    Args:
        checkpoints: held by us.
        query: the job's.
        settings: that the query will have.
        topic: that it will read.
        feed: the topic's offsets.
        client: of the keyspace; None when rows are only printed.

    Raises:
        SchemaError: a checkpoint is of another keyspace, the keyspace holds nothing of the
            topic, or Kafka has lost messages that were not read.
    """
    progress = {} if client is None else client.progress(topic.topic_id)
    offsets = feed.offsets()
    if checkpoints.folder(query).exists():
        label = CheckpointLabel.of(query, settings, topic.topic_id)
        reason = _reason_to_start_over(checkpoints, label, topic, offsets, progress)
        if reason is not None:
            checkpoints.set_aside(query, reason)
    checkpoints.end_set_aside(query)
    if query in _SILVER_QUERIES:
        checkpoints.lost_writes.unlink(missing_ok=True)
    if checkpoints.was_set_aside(query):
        # Whoever asked to begin at the end did not ask to leave out what is unread.
        topic = replace(topic, starting_offsets="earliest")
    if client is None or query not in _SILVER_QUERIES:
        return topic
    starts_over = checkpoints.starts_over(query, topic.name, has_progress=bool(progress))
    is_new = CheckpointLog(checkpoints.folder(query)).is_empty
    if starts_over:
        # From the end on, what is unread before it would never be read.
        topic = replace(topic, starting_offsets="earliest")
        client.start_over(topic.topic_id)
    elif topic.starting_offsets == "latest" and is_new and not progress:
        # What lies before the start will never be read; nobody shall wait for it.
        skipped = [
            PartitionProgress(partition, end - 1, None, None)
            for partition, (_, end) in offsets.items()
        ]
        client.write_progress(topic.topic_id, skipped)
    return topic


def _reason_to_start_over(
    checkpoints: Checkpoints,
    label: CheckpointLabel,
    topic: Topic,
    offsets: Offsets,
    progress: Mapping[int, PartitionProgress],
) -> str | None:
    """Return why a checkpoint cannot be gone on with, None if it can."""
    folder = checkpoints.folder(label.query)
    stored = CheckpointLabel.read(folder)
    if stored is not None and stored.keyspace != label.keyspace:
        message = (
            f"The checkpoint {folder} is of keyspace {stored.keyspace}: give keyspace "
            f"{label.keyspace} another --checkpoint-dir, or take it over with --reset-checkpoint."
        )
        raise SchemaError(message)
    if label.query in _SILVER_QUERIES and checkpoints.lost_writes.exists():
        return "Cassandra has lost what was read"
    checkpoint = CheckpointLog(folder)
    damage = checkpoint.damage()
    if checkpoints.is_half_aside(label.query):
        damage = "setting it aside was cut off"
    if checkpoint.is_empty:
        return damage
    if damage is None:
        differences = [] if stored is None else label.differences(stored)
        if differences:
            return ", ".join(differences)
        read_next = checkpoint.next_offsets(topic.name)
        return _expired(label.query, topic, read_next, offsets, progress) or _forgotten(
            label.query, read_next, offsets, progress
        )
    # What it does not say, silver does: Kafka must still have all that follows.
    silver = progress if label.query in _SILVER_QUERIES else {}
    read_next = {partition: p.committed_offset + 1 for partition, p in silver.items()}
    return _expired(label.query, topic, read_next, offsets, progress) or damage


def _forgotten(
    query: str,
    read_next: Mapping[int, int],
    offsets: Offsets,
    progress: Mapping[int, PartitionProgress],
) -> str | None:
    """Return what silver lacks though it was read and Kafka still has it; None if nothing.

    Progress is written before a batch is committed, so it is behind only where Cassandra has lost
    its last writes, or an older copy of the keyspace was put back.
    """
    if query not in _SILVER_QUERIES or not progress:
        return None
    for partition, offset in read_next.items():
        first, _ = offsets.get(partition, (0, 0))
        in_silver = progress[partition].committed_offset if partition in progress else -1
        if max(first, in_silver + 1) < offset:
            return f"silver has partition {partition} up to {in_silver}, and it up to {offset - 1}"
    return None


def _expired(
    query: str,
    topic: Topic,
    read_next: Mapping[int, int],
    offsets: Offsets,
    progress: Mapping[int, PartitionProgress],
) -> str | None:
    """Return why a checkpoint is too old for what Kafka still has; None if it is not."""
    reason = None
    for partition, offset in read_next.items():
        first, end = offsets.get(partition, (0, 0))
        if offset > end:
            message = (
                f"Kafka has lost messages: partition {partition} of {topic.name} ends at {end}, "
                f"and {offset} were read. Delete the topic and create it again with "
                f"`tapeline init --topic {topic.name}`; what was read stays in Cassandra."
            )
            raise SchemaError(message)
        if offset >= first:
            continue
        in_silver = progress[partition].committed_offset if partition in progress else -1
        if query == PREVIEW_QUERY or (query in _SILVER_QUERIES and in_silver + 1 >= first):
            reason = f"Kafka begins at {first} in partition {partition}, and it at {offset}"
            continue
        message = (
            f"Messages {offset:,} to {first - 1:,} of partition {partition} of {topic.name} have "
            f"expired in Kafka before query {query} read them. --reset-checkpoint goes on with "
            "what is left."
        )
        raise SchemaError(message)
    return reason
