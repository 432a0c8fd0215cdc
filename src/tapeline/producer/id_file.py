"""The newest numbers of a feed's trades on disk, so that the next run knows what it has missed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson
import structlog

from tapeline.producer.id_watch import Point

log = structlog.get_logger()

_OLDEST_US: Final = 24 * 3_600_000_000
"""A longer time is not fetched."""

Runs = Mapping[str, tuple[Point, Point]]
"""Of each symbol the first and the last trade of its newest run."""


class IdFile:
    """One file beside a producer's spool; without it, or if it is damaged, nothing is known."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, topic_id: str, now_us: int) -> dict[str, tuple[Point, Point]]:
        """Return the runs that were written last, if they went to a topic within a day.

        Args:
            topic_id: of the topic.
            now_us: the present, µs since the epoch.
        """
        try:
            found = orjson.loads(self._path.read_bytes())
            if found["topic_id"] != topic_id:
                return {}
            runs = {s: (_point(first), _point(last)) for s, (first, last) in found["runs"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            log.warning("numbers_unreadable", file=self._path.name)
            return {}
        return {s: run for s, run in runs.items() if run[1].received_us > now_us - _OLDEST_US}

    def write(self, topic_id: str, runs: Runs) -> None:
        """Replace the file; if the disk refuses, the next run knows less."""
        new = self._path.with_suffix(".new")
        plain = {symbol: [list(first), list(last)] for symbol, (first, last) in runs.items()}
        with contextlib.suppress(OSError):
            new.write_bytes(orjson.dumps({"topic_id": topic_id, "runs": plain}))
            new.replace(self._path)

    def delete(self) -> None:
        """Forget the numbers, since another feed brings the symbols from now on."""
        self._path.unlink(missing_ok=True)


def _point(numbers: list[int]) -> Point:
    point = Point(*numbers)
    if {*map(type, point)} != {int}:
        message = "A number is missing."
        raise ValueError(message)
    return point
