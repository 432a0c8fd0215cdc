"""Times on the command line: UTC, to the day, minute or second."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

TIME_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
"""What options such as `--from` take."""


def as_utc(time: datetime) -> datetime:
    """Return a time given without a zone as one in UTC."""
    return time.replace(tzinfo=timezone.utc)
