"""How far a rebuild got, in a small file, so that the same command goes on after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from tapeline.model.bar import WindowKey

log = structlog.get_logger()

_NAMED: Final = 10


class Tally(BaseModel):
    """A number of windows, the first of them by name."""

    count: int = 0
    first: list[str] = []

    def add(self, keys: Iterable[WindowKey]) -> None:
        """Count windows."""
        for symbol, start in keys:
            self.count += 1
            if len(self.first) < _NAMED:
                self.first.append(f"{symbol} {start:%Y-%m-%dT%H:%M}")

    def merge(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        self.first = [*self.first, *other.first][:_NAMED]
        self.count += other.count

    def __str__(self) -> str:
        """Name the first and say how many more there are."""
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more:,} more" if more > 0 else "")


class Progress(BaseModel):
    """What a rebuild has done so far."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    started_at: datetime
    offsets: dict[str, int] = {}
    """Silver: the next offset of each Kafka partition, by `topic id/partition`."""
    messages: int = 0
    fragments: Tally = Tally()
    """Windows of which bronze has lost messages."""
    missing_trades: int = 0
    """Trades that are still not in silver after they were written."""
    missing: Tally = Tally()
    hour: tuple[datetime, str] | None = None
    """Gold: the last hour and symbol that is done."""
    windows: int = 0
    raced: set[WindowKey] = set()
    """Windows to look at again: the stream may have worked on them at the same time."""
    written: Tally = Tally()
    written_hours: Tally = Tally()
    kept: Tally = Tally()
    empty: Tally = Tally()
    expired: Tally = Tally()
    left: Tally = Tally()


class ProgressFile:
    """A file that holds the progress of one command; it is gone once the command has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Progress | None:
        """Return the progress of an earlier run that did not end, if there was one."""
        try:
            return Progress.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            # Everything may be done again, so nothing is lost but time.
            log.warning("progress_unreadable", file=str(self._path))
            return None

    def save(self, progress: Progress) -> None:
        """Replace the file in one step."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(progress.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    def delete(self) -> None:
        """Forget the progress."""
        self._path.unlink(missing_ok=True)
