"""The newest numbers of a feed's trades on disk, so that the next run knows what it has missed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson
import structlog

log = structlog.get_logger()

_NUMBERS: Final = 6

Runs = Mapping[str, tuple[int, ...]]
"""Of each symbol its newest run: number, event time (ms) and receipt (µs) of its two ends."""


class IdFile:
    """One file beside a producer's spool; without it, or if it is damaged, nothing is known."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Runs:
        """Return what was written last."""
        try:
            found = orjson.loads(self._path.read_bytes())
            runs = {symbol: tuple(numbers) for symbol, numbers in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            runs = {"": ()}
        if all(len(run) == _NUMBERS and {*map(type, run)} == {int} for run in runs.values()):
            return runs
        log.warning("numbers_unreadable", file=self._path.name)
        return {}

    def write(self, runs: Runs) -> None:
        """Replace the file; if the disk refuses, the next run knows less."""
        new = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_bytes(orjson.dumps(runs))
            new.replace(self._path)
