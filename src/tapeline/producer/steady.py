"""A clock that never steps and, where the system has one, goes on while the machine sleeps."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Return seconds since some instant in the past."""
    return time.clock_gettime(_CLOCK)
