"""What is looked at, and what of it is a problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tapeline.model.texts import counted
from tapeline.status.bar_counts import BarCounts
from tapeline.status.flow import Flow, problems_of_feed

WAITS_FOR: Final = timedelta(seconds=60)
"""A message should be in silver, and a window finalized, this long after it could be."""
LEAST_FREE_MB: Final = 1000


@dataclass(frozen=True, slots=True)
class Service:
    """Kafka or Cassandra: where, by what it was found, and why it does not work, if so.

    `pid` and `memory_mb` are of the local stack.
    """

    name: str
    address: str
    found: str
    trouble: str | None = None
    pid: int | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """What the home takes and what is left, in MB."""

    home: str
    used_mb: int
    free_mb: int


@dataclass(frozen=True, slots=True)
class Health:
    """Everything on the screen; `flow` and `bars` are None when they could not be read."""

    at: datetime
    keyspace: str
    topic: str
    services: tuple[Service, ...]
    flow: Flow | None
    bars: BarCounts | None
    disk: Disk
    missing: tuple[str, ...] = ()
    """What of tables and topics is not there, in sentences."""


def problems_of(health: Health) -> list[str]:
    """Return what is wrong, each with what to do about it; none when all is well."""
    problems = [s.trouble for s in health.services if s.trouble is not None]
    problems += health.missing
    if health.flow is not None:
        problems += problems_of_feed(health.flow)
        problems += _problems_of_stream(health.flow)
    if health.disk.free_mb < LEAST_FREE_MB:
        problems.append(f"Only {health.disk.free_mb:,} MB are free at {health.disk.home}.")
    return problems


def _problems_of_stream(flow: Flow) -> Iterator[str]:
    if flow.stuck:
        yield (
            f"{counted(flow.stuck, 'message has', 'messages have')} waited in Kafka for more than "
            "a minute: start `tapeline stream`, or see its log."
        )
    elif flow.overdue:
        yield (
            f"{counted(flow.overdue, 'window')} could have been finalized a minute ago: start "
            "`tapeline stream` (--job all or finalize), or see its log."
        )


def is_overdue(window_end: datetime, final_to: datetime | None, now: datetime) -> bool:
    """Return whether a window should have been finalized for a minute.

    Args:
        window_end: of a window that is not finalized.
        final_to: windows that end by then can be finalized; None is none of them.
        now: the clock.
    """
    return final_to is not None and window_end <= min(final_to, now) - WAITS_FOR
