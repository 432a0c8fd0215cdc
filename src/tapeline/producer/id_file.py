"""The newest numbers of a feed's trades on disk, so that the next run knows what it has missed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson
import structlog

from tapeline.producer.id_watch import Point

log = structlog.get_logger()

KEPT_US: Final = 24 * 3_600_000_000
"""How long numbers are known; a longer time is not fetched."""

Run = tuple[Point, Point]
"""The first and the last of trades between which none is missing."""


class IdFile:
    """One file beside a producer's spool; without it, or if it is damaged, nothing is known."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, topic_id: str, until_us: int, now_us: int) -> dict[str, list[Run]]:
        """Return the runs of each symbol that were written last, if their trades are there.

        Those that ended more than a day ago are left out.

        Args:
            topic_id: of the topic that they must have gone to.
            until_us: the newest receipt up to which everything is in the spool or in Kafka.
            now_us: the present, µs since the epoch, as all times.
        """
        try:
            found = orjson.loads(self._path.read_bytes())
            if found["topic_id"] != topic_id or found["until_us"] > until_us:
                return {}
            known = {
                symbol: [(_point(first), _point(last)) for first, last in some]
                for symbol, some in found["runs"].items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            log.warning("numbers_unreadable", file=self._path.name)
            return {}
        oldest_us = now_us - KEPT_US
        recent = {s: [r for r in some if r[1].received_us > oldest_us] for s, some in known.items()}
        return {symbol: some for symbol, some in recent.items() if some}

    def write(self, topic_id: str, until_us: int, runs: Mapping[str, Sequence[Run]]) -> None:
        """Replace the file; if the disk refuses, the next run knows less.

        Args:
            topic_id: of the topic that the trades go to.
            until_us: the newest receipt of what they are among, µs since the epoch.
            runs: of each symbol.
        """
        new = self._path.with_suffix(".new")
        plain = {
            symbol: [[list(first), list(last)] for first, last in some]
            for symbol, some in runs.items()
        }
        with contextlib.suppress(OSError):
            new.write_bytes(
                orjson.dumps({"topic_id": topic_id, "until_us": until_us, "runs": plain})
            )
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
