"""What a checkpoint belongs to: a small file of ours in the folder of each query.

Spark takes part of its settings from a checkpoint, and knows nothing of ours: without the file
another policy or another number of shuffle partitions would go unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tapeline.settings import Settings

FORMAT: Final = 1
"""The version of our checkpoints: raised when a query changes so that it cannot go on."""

_FILE: Final = "tapeline.json"
_OF_STATE: Final = ("shuffle_partitions", "watermark_s", "policy", "state_store")


class CheckpointLabel(BaseModel):
    """The topic, keyspace and settings that a query's checkpoint was made with."""

    model_config = ConfigDict(frozen=True)

    format: int
    query: str
    topic_id: str
    keyspace: str
    shuffle_partitions: int
    watermark_s: int
    policy: str
    state_store: str

    @classmethod
    def of(cls, query: str, settings: Settings, topic_id: str) -> CheckpointLabel:
        """Return the label of a query that is to be started."""
        stream = settings.stream
        return cls(
            format=FORMAT,
            query=query,
            topic_id=topic_id,
            keyspace=settings.cassandra.keyspace,
            shuffle_partitions=stream.shuffle_partitions,
            watermark_s=stream.watermark_s,
            policy=stream.policy.value,
            state_store="rocksdb" if stream.rocksdb_state else "memory",
        )

    @classmethod
    def read(cls, folder: Path) -> CheckpointLabel | None:
        """Return the label of a checkpoint; None when it has none that can be read."""
        try:
            return cls.model_validate_json((folder / _FILE).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, folder: Path) -> None:
        """Put the label on a checkpoint, in one step."""
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{_FILE}.new"
        new.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        new.replace(folder / _FILE)

    def differences(self, other: CheckpointLabel, *, has_state: bool) -> list[str]:
        """Name what keeps a query of this label from going on with a checkpoint of another.

        Args:
            other: of the checkpoint.
            has_state: whether the query keeps a state, which depends on settings.
        """
        ours: Mapping[str, object] = self.model_dump()
        theirs: Mapping[str, object] = other.model_dump()
        names = ("format", "query", "topic_id", *(_OF_STATE if has_state else ()))
        return [f"{n} {theirs[n]} → {ours[n]}" for n in names if ours[n] != theirs[n]]
