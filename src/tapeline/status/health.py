"""What is looked at, and what of it is a problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tapeline.model.feed_status import MOST_OFF_S

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
class Producer:
    """What one producer last reported."""

    name: str
    symbols: int
    connected: bool
    is_gone: bool
    has_ended: bool
    pending: int
    without_slot: tuple[str, ...] = ()
    clock_offset_s: float | None = None
    """How far its host's clock is ahead of the feed's time, in seconds."""


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A time without a feed that lasts."""

    producer: str
    kind: str
    since: datetime
    symbols: int


@dataclass(frozen=True, slots=True)
class Flow:
    """How far the topic's trades are: None where nothing has come yet.

    `stuck` counts the messages that have been unread for a minute, `overdue` the windows that
    could have been finalized a minute ago.
    """

    producers: tuple[Producer, ...] = ()
    gaps: tuple[OpenGap, ...] = ()
    messages: int = 0
    unread: int = 0
    stuck: int = 0
    newest_trade: datetime | None = None
    newest_receipt: datetime | None = None
    freshness_s: float | None = None
    frontier: datetime | None = None
    open_windows: int = 0
    overdue: int = 0


@dataclass(frozen=True, slots=True)
class BarCounts:
    """Five-minute bars of today, UTC."""

    symbols: int
    final: int
    provisional: int
    revised: int
    incomplete: int


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
        problems += _problems_of_feed(health.flow)
        problems += _problems_of_stream(health.flow)
    if health.disk.free_mb < LEAST_FREE_MB:
        problems.append(f"Only {health.disk.free_mb:,} MB are free at {health.disk.home}.")
    return problems


def _problems_of_feed(flow: Flow) -> Iterator[str]:
    living = [p for p in flow.producers if not p.is_gone]
    has_ended = bool(flow.producers) and all(p.has_ended for p in flow.producers)
    if not living and not has_ended:
        yield "No producer reports: start one with `tapeline produce`."
    for p in living:
        if not p.connected and not p.has_ended:
            yield f"Producer {p.name} has no connection to the feed: see its log."
        if p.without_slot:
            refused = ", ".join(p.without_slot)
            yield f"The feed refuses symbols of producer {p.name}: {refused}. Subscribe fewer."
        if p.clock_offset_s is not None and abs(p.clock_offset_s) > MOST_OFF_S:
            where = "ahead of" if p.clock_offset_s > 0 else "behind"
            yield (
                f"The clock of producer {p.name}'s host is {abs(p.clock_offset_s):,.0f} s {where} "
                "the feed's time: set it right, it is corrected for meanwhile."
            )
    names = {p.name for p in living if p.connected}
    for gap in flow.gaps:
        if gap.producer in names:
            since = f"{gap.since:%Y-%m-%d %H:%M:%S} UTC"
            yield f"Producer {gap.producer} hears no trades since {since} ({gap.kind})."


def _problems_of_stream(flow: Flow) -> Iterator[str]:
    if flow.stuck:
        yield (
            f"{flow.stuck:,} messages have waited in Kafka for more than a minute: "
            "start `tapeline stream`, or see its log."
        )
    elif flow.overdue:
        yield (
            f"{flow.overdue:,} windows could have been finalized a minute ago: start `tapeline "
            "stream` (--job all or finalize), or see its log."
        )


def is_overdue(window_end: datetime, final_to: datetime | None, now: datetime) -> bool:
    """Return whether a window should have been finalized for a minute.

    Args:
        window_end: of a window that is not finalized.
        final_to: windows that end by then can be finalized; None is none of them.
        now: the clock.
    """
    return final_to is not None and window_end <= min(final_to, now) - WAITS_FOR
