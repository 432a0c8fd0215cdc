"""What a checkpoint belongs to: a small file of ours in the folder of each query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tapeline.consumer.checkpoint_place import Place
from tapeline.model.errors import StreamError
from tapeline.program.settings import Settings

FORMAT: Final = 1
"""The version of our checkpoints: raised when a query changes so that it cannot go on."""

_FILE: Final = "tapeline.json"


class CheckpointLabel(BaseModel):
    """The topic and keyspace that a query's checkpoint was made for."""

    model_config = ConfigDict(frozen=True)

    format: int
    query: str
    topic_id: str
    keyspace: str

    @classmethod
    def of(cls, query: str, settings: Settings, topic_id: str) -> CheckpointLabel:
        """Return the label of a query that is to be started."""
        return cls(
            format=FORMAT,
            query=query,
            topic_id=topic_id,
            keyspace=settings.cassandra.keyspace,
        )

    @classmethod
    def read(cls, folder: Place) -> CheckpointLabel | None:
        """Return the label of a checkpoint; None when it has none that can be read."""
        try:
            return cls.model_validate_json((folder / _FILE).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, folder: Place) -> None:
        """Put the label on a checkpoint, in one step.

        Raises:
            StreamError: the disk is full, or the folder may not be written.
        """
        new = folder / f"{_FILE}.new"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            new.write_bytes(self.model_dump_json(indent=2).encode() + b"\n")
            new.replace(folder / _FILE)
        except OSError as error:
            message = (
                f"The checkpoint {folder} cannot be written: {error.strerror}. Mend that and start "
                "the stream again: it goes on where it was."
            )
            raise StreamError(message) from error

    def differences(self, other: CheckpointLabel) -> list[str]:
        """Name what keeps a query of this label from going on with a checkpoint of another."""
        ours: Mapping[str, object] = self.model_dump()
        theirs: Mapping[str, object] = other.model_dump()
        names = ("format", "query", "topic_id")
        return [f"{n} {theirs[n]} → {ours[n]}" for n in names if ours[n] != theirs[n]]
