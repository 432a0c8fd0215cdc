"""The groups that a previous run has left in a spool, in little memory: there may be millions."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tapeline.producer.spool_file import GroupHead


class FoundGroup(NamedTuple):
    """What is remembered of a group that a previous run has left."""

    number: int
    receipt_us: int
    oldest_us: int
    messages: int


class FoundGroups:
    """All groups of one spool, 32 bytes each."""

    def __init__(self) -> None:
        self.acknowledged = 0
        """The highest number that Kafka has, by what they say and by what was deleted."""
        self._fields = array("q")

    def add(self, heads: Iterable[GroupHead]) -> None:
        """Add the next ones."""
        for head in heads:
            self.acknowledged = max(self.acknowledged, head.acknowledged)
            self._fields.extend((head.number, head.receipt_us, head.oldest_us, head.messages))

    def groups(self) -> Iterator[FoundGroup]:
        """Yield them in their order."""
        width = len(FoundGroup._fields)
        for start in range(0, len(self._fields), width):
            yield FoundGroup(*self._fields[start : start + width])
