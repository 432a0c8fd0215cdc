"""Run the real `tapeline stream`, and kill -9 it or a service at a named point of its work.

    python -m tests.kill_points POINT PASS MARKER VICTIM [arguments of `tapeline stream`]

The product knows nothing of it: its own steps are wrapped before it starts. At the given pass of
the point a marker is written, and then the victim is killed: the process with that id, or with 0
the stream itself, Python, its Java and all that they started by one signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

import psutil

from tapeline.consumer import main
from tapeline.consumer.sinks import CassandraSink
from tapeline.consumer.spark_processor import SparkProcessor
from tapeline.model.bar import Interval
from tapeline.storage.cassandra_client import CassandraClient

Applies = Callable[..., bool]
"""Given a step's arguments, return whether this pass of it counts."""


@dataclass(frozen=True, slots=True)
class Point:
    """The moment before or after one step, a function `step` of `owner`."""

    owner: Any
    step: str
    is_after: bool
    applies: Applies


def _always(*_: object) -> bool:
    return True


def _of_table(table: str) -> Applies:
    return lambda _sink, written, _rows: written == table


def _previews(_: object, interval: Interval, bars: Any) -> bool:
    return interval is Interval.FIVE_MINUTES and len(bars) > 0


def _finals(wanted: Interval) -> Applies:
    return lambda _client, interval, bars: interval is wanted and len(bars) > 0


def _changes(_: object, cql: str, _rows: object) -> bool:
    return "bar_changes" in cql


def _marks(wanted: Interval) -> Applies:
    return lambda _client, _states, interval: interval is wanted


def _around(name: str, owner: Any, step: str, applies: Applies = _always) -> dict[str, Point]:
    return {
        f"before_{name}": Point(owner, step, is_after=False, applies=applies),
        f"after_{name}": Point(owner, step, is_after=True, applies=applies),
    }


_MINUTES: Final = Interval.FIVE_MINUTES
_HOUR: Final = Interval.ONE_HOUR

IN_A_BATCH: Final[Mapping[str, Point]] = {
    **_around("previews", CassandraSink, "write_bars", _previews),
    **_around("bronze", CassandraSink, "write", _of_table("trades_bronze")),
    **_around("silver", CassandraSink, "write", _of_table("trades_silver")),
    **_around("window_state", CassandraClient, "write_affected_windows"),
    **_around("progress", CassandraClient, "write_progress"),
    "before_commit": Point(SparkProcessor, "_write", is_after=True, applies=_always),
}
"""Once in each batch, in this order; what follows the last one is Spark's own commit."""

IN_FINALIZING: Final[Mapping[str, Point]] = {
    **_around("final_5m", CassandraClient, "write_final_bars", _finals(_MINUTES)),
    "after_changes": Point(CassandraClient, "write", is_after=True, applies=_changes),
    "between_5m_and_1h": Point(
        CassandraClient, "mark_finalized", is_after=True, applies=_marks(_MINUTES)
    ),
    **_around("final_1h", CassandraClient, "write_final_bars", _finals(_HOUR)),
    "after_marks_1h": Point(
        CassandraClient, "mark_finalized", is_after=True, applies=_marks(_HOUR)
    ),
}
"""Once in each chunk of windows: the log of changes, the bars, the marks; then the hours."""

POINTS: Final = {**IN_A_BATCH, **IN_FINALIZING}


class _Killer:
    """Counts the passes of one point, in whatever thread, and kills at the chosen one."""

    def __init__(self, name: str, at_pass: int, marker: Path, victim: int) -> None:
        self._name = name
        self._left = at_pass
        self._marker = marker
        self._victim = victim
        self._lock = threading.Lock()

    def wrap(self, point: Point) -> None:
        """Put a point into the product's step."""
        step = getattr(point.owner, point.step)

        @wraps(step)
        def wrapped(*arguments: Any) -> Any:
            counts = point.applies(*arguments)
            if counts and not point.is_after:
                self._passed()
            result = step(*arguments)
            if counts and point.is_after:
                self._passed()
            return result

        setattr(point.owner, point.step, wrapped)

    def _passed(self) -> None:
        with self._lock:  # nobody comes past it once the marker is being written
            self._left -= 1
            if self._left == 0:
                self._kill()

    def _kill(self) -> None:
        victim = psutil.Process(self._victim or None)
        pids = [victim.pid, *(child.pid for child in victim.children(recursive=True))]
        self._marker.write_text(json.dumps({"point": self._name, "pids": pids}), encoding="utf-8")
        os.killpg(victim.pid, signal.SIGKILL)


def _run() -> None:
    name, at_pass, marker, victim, *arguments = sys.argv[1:]
    if os.getpgrp() != os.getpid():
        sys.exit("Start it in a session of its own: it kills its whole process group.")
    _Killer(name, int(at_pass), Path(marker), int(victim)).wrap(POINTS[name])
    sys.argv = ["tapeline-stream", *arguments]
    main.main()


if __name__ == "__main__":
    _run()
