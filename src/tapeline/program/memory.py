"""How much memory this process takes."""

from __future__ import annotations

from contextlib import suppress

import psutil


def resident_bytes() -> int:
    """Return what this process and all that it has started hold in memory, in bytes.

    Memory that several of them share counts in each.
    """
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended, or is another user's
            total += int(process.memory_info().rss)
    return total
