"""Times: UTC, as numbers since the epoch, and as options of the command line take them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Final

from tapeline.model.errors import UsageError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
TIME_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
"""What options such as `--from` take."""


LAST_TIME: Final = datetime(2100, 1, 1, tzinfo=timezone.utc)
"""Nothing is stored of it or later."""


def within_reach(bound: datetime) -> datetime:
    """Return a bound of times in UTC; one before 1970 or after 2099 becomes the nearer end.

    So sums of it and any length of bars are times too, and nobody looks where nothing can be.
    """
    return min(max(bound if bound.tzinfo else as_utc(bound), EPOCH), LAST_TIME)


def time_span(
    start: datetime | None, end: datetime | None
) -> tuple[datetime | None, datetime | None]:
    """Return the two bounds of an option each, in UTC and within reach; None is no bound.

    Raises:
        UsageError: the end is not after the start.
    """
    first, last = start and within_reach(start), end and within_reach(end)
    if first is not None and last is not None and last <= first:
        message = f"--to ({iso(last)}) is not after --from ({iso(first)})."
        raise UsageError(message)
    return first, last


def now_us() -> int:
    """Return the host's time, µs since the epoch."""
    return time.time_ns() // 1000


def as_utc(instant: datetime) -> datetime:
    """Return a time given without a zone as one in UTC."""
    return instant.replace(tzinfo=timezone.utc)


def from_micros(us: int) -> datetime:
    """Return the instant so many µs after the epoch."""
    return EPOCH + timedelta(microseconds=us)


def to_micros(instant: datetime) -> int:
    """Return the whole µs from the epoch to an instant (aware)."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def iso(instant: datetime, finest: str = "milliseconds") -> str:
    """Write an instant (UTC) in ISO form; with parts of a second, if it has any, up to `finest`."""
    timespec = finest if instant.microsecond else "seconds"
    return instant.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"


def iso_of_micros(us: int) -> str:
    """Write the instant so many µs after the epoch in ISO form, UTC, to the second."""
    return iso(from_micros(us), "seconds")


def from_millis(ms: int) -> datetime:
    """Return the instant so many ms after the epoch."""
    return EPOCH + timedelta(milliseconds=ms)


def to_millis(instant: datetime) -> int:
    """Return the whole ms from the epoch to an instant (aware)."""
    return (instant - EPOCH) // timedelta(milliseconds=1)


def floor_to(length: timedelta, instant: datetime) -> datetime:
    """Return the start of the tumbling window of a length that an instant lies in."""
    return instant - (instant - EPOCH) % length
