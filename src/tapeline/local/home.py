"""Where the local stack keeps its things, below `TAPELINE_HOME`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tapeline.model.errors import UsageError


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest one above it that is there, as far as one may look."""
    # pathlib raises where a folder may not be looked into.
    return next(p for p in (path, *path.parents) if os.path.lexists(p))


def why_not_writable(folder: Path) -> str:
    """Return why nothing can be written below a folder, there or not yet; empty if it can."""
    found = nearest_existing(folder)
    if not os.path.isdir(found):  # noqa: PTH112 - the same
        return f"{found} is no folder"
    return "" if os.access(found, os.W_OK | os.X_OK) else "no permission"


@dataclass(frozen=True, slots=True)
class Home:
    """The folders below one home."""

    root: Path

    def make_writable(self) -> None:
        """Make the home if there is none.

        Raises:
            UsageError: it cannot be made, or may not be written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error
        self.require_writable()

    def require_writable(self) -> None:
        """Check that the home may be written, or made where there is none; makes nothing.

        Raises:
            UsageError: it may not.
        """
        if reason := why_not_writable(self.root):
            raise self._refused(reason)

    def _refused(self, reason: str) -> UsageError:
        return UsageError(
            f"{self.root} cannot be written ({reason}): set TAPELINE_HOME to a folder of your own."
        )

    @property
    def disk(self) -> Path:
        """The home, or the nearest folder above it that is there: it is on the same disk."""
        return nearest_existing(self.root)

    def make_private(self) -> None:
        """Make the home if there is none; nobody but its owner may look into it.

        Raises:
            UsageError: it cannot be made, or may not be written.
        """
        self.make_writable()
        if self.root.stat().st_uid == os.getuid():
            self.root.chmod(0o700)

    @property
    def jars(self) -> Path:
        """Jars of Kafka, Cassandra and Spark's connectors.

        No link: a class archive knows its jars by their paths, and homes may share one folder.
        """
        return (self.root / "jars").resolve()

    @property
    def class_archives(self) -> Path:
        """What JVMs have made of the classes in those jars."""
        return self.jars / "class-archives"

    @property
    def data(self) -> Path:
        """Data of the services, kept between runs."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def checkpoints(self) -> Path:
        """Spark's checkpoints, one folder a keyspace."""
        return self.root / "checkpoints"

    @property
    def spool(self) -> Path:
        """What producers keep until Kafka has it, one folder a topic, in it one a producer."""
        return self.root / "spool"

    @property
    def watches(self) -> Path:
        """What watches have not delivered and have told, one folder a watch."""
        return self.root / "watches"

    @property
    def rebuilds(self) -> Path:
        """How far rebuilds got that have not ended, one file a command."""
        return self.root / "rebuilds"

    @property
    def locks(self) -> Path:
        """One lock file a target."""
        return self.root / "locks"

    @property
    def state_file(self) -> Path:
        """What runs: process ids and ports."""
        return self.root / "stack.json"

    @property
    def users_file(self) -> Path:
        """Locked, shared, by every command that uses a stack that is not kept."""
        return self.root / "stack.users"

    @property
    def lock_file(self) -> Path:
        """Held while the stack is started or stopped."""
        return self.root / "stack.lock"
