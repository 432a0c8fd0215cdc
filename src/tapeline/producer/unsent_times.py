"""The oldest time of what Kafka does not have yet, without a look at all of it."""

from __future__ import annotations

from collections import deque
from typing import Final

NO_TIME: Final = 1 << 62
"""In place of the oldest time where nothing has one; later than any time."""
_TOGETHER_US: Final = 1_000_000


class UnsentTimes:
    """Groups in their order, the first of which go; kept are only those that can be the oldest.

    A group that is followed by one with an older time never is it, since it goes earlier. Those
    within a second count as one, so that hours without Kafka take little memory.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int, int]] = deque()

    @property
    def oldest_us(self) -> int:
        """The oldest time, µs since the epoch, or up to a second before it; or `NO_TIME`."""
        return self._kept[0][1] if self._kept else NO_TIME

    def add(self, number: int, oldest_us: int) -> None:
        """Note the next group and its oldest time, µs since the epoch, or `NO_TIME`."""
        if oldest_us == NO_TIME:
            return
        while self._kept and self._kept[-1][1] >= oldest_us:
            self._kept.pop()
        if self._kept and oldest_us - self._kept[-1][1] < _TOGETHER_US:
            oldest_us = self._kept.pop()[1]
        self._kept.append((number, oldest_us))

    def acknowledged(self, number: int) -> None:
        """Note that Kafka has a group and all before it."""
        while self._kept and self._kept[0][0] <= number:
            self._kept.popleft()
