"""Spark's checkpoints: where they are, when they may be used, and deleting them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import typer

from tapeline.consumer.checkpoint_log import CheckpointLog
from tapeline.consumer.checkpoint_place import Place, delete_folder, numbers_in
from tapeline.consumer.driver_lock import DriverLock
from tapeline.local.lock import held
from tapeline.model.errors import SchemaError, UsageError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one topic and sink, a folder for each query."""

    root: Place

    def folder(self, query: str) -> Place:
        """Return where a query keeps its checkpoint."""
        return self.root / query

    @contextmanager
    def held(self, query: str, wait_s: float) -> Iterator[Callable[[], None]]:
        """Keep every other driver from a query's checkpoint, whatever home or host it has.

        Yields:
            What raises StreamError once another has taken it over all the same, which it does
            from one that stood still.

        Raises:
            UsageError: another one works on it for longer than `wait_s`.
        """
        message = (
            f"Another driver works on the checkpoint {self.folder(query)}: stop it first, "
            "or give one of the two a --checkpoint-dir of its own."
        )
        if isinstance(self.root, Path):  # where the operating system tells who has died
            with held(self.root / f"{query}.lock", message, wait_s):
                yield lambda: None
            return
        lock = DriverLock(self.root / f"{query}.drivers")
        lock.take(message, wait_s)
        try:
            yield lock.require
        finally:
            lock.release()

    def set_aside(self, query: str, reason: str) -> None:
        """Move a checkpoint out of the way, so that its query starts over.

        The one that was moved before it is deleted.
        """
        aside = self._aside(query)
        self._begun_aside(query).touch()
        delete_folder(aside)
        self.folder(query).rename(aside)
        self.end_set_aside(query)
        log.warning("checkpoint_set_aside", query=query, reason=reason, moved_to=str(aside))

    def is_half_aside(self, query: str) -> bool:
        """Return whether moving a checkpoint was cut off: some file systems move file by file."""
        return self._begun_aside(query).exists()

    def end_set_aside(self, query: str) -> None:
        """Note that nothing is left of a checkpoint that was to be moved."""
        self._begun_aside(query).unlink(missing_ok=True)

    @property
    def lost_writes(self) -> Place:
        """The file that says that Cassandra has lost what was read by these checkpoints."""
        return self.root / "lost_writes"

    def was_set_aside(self, query: str) -> bool:
        """Return whether a query was to start over, and no batch of it has been begun since."""
        return self._aside(query).exists() and CheckpointLog(self.folder(query)).is_empty

    def reset(self, query: str, *, confirmed: bool) -> None:
        """Delete the checkpoint of a query, after asking unless `confirmed`.

        Raises:
            UsageError: not confirmed, and there is no terminal to ask on; or a driver uses it.
        """
        folders = (self.folder(query), self._aside(query))
        existing = [folder for folder in folders if folder.exists()]
        if not existing:
            return
        names = ", ".join(str(folder) for folder in existing)
        if not confirmed:
            if not sys.stdin.isatty():
                message = f"--reset-checkpoint deletes {names}; add --yes to confirm."
                raise UsageError(message)
            typer.confirm(f"Delete {names} and read the topic again?", abort=True)
        with self.held(query, wait_s=0):
            for folder in existing:
                delete_folder(folder)
        log.info("checkpoint_deleted", folders=names)

    def _aside(self, query: str) -> Place:
        return self.root / f"{query}.aside"

    def _begun_aside(self, query: str) -> Place:
        return self.root / f"{query}.aside_begun"

    def starts_over(self, query: str, topic: str, *, has_progress: bool) -> bool:
        """Return whether a topic that has been written before is now read again from its start.

        Args:
            query: the one that writes silver.
            topic: its name.
            has_progress: the keyspace holds something of the topic.

        Raises:
            SchemaError: the checkpoint is of another Cassandra or of a keyspace since dropped.
        """
        # The folder is there before the first batch; a kill may leave it empty.
        has_commits = bool(numbers_in(self.folder(query) / "commits"))
        if has_commits and not has_progress and CheckpointLog(self.folder(query)).has_read(topic):
            message = (
                f"The checkpoint {self.folder(query)} says that its topic has been read, but the "
                "keyspace holds nothing of it: read it again with --reset-checkpoint."
            )
            raise SchemaError(message)
        return has_progress and not has_commits
