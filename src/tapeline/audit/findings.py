"""Collect what an audit finds, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tapeline.audit.difference import Difference, Pair

KEPT_DIFFERENCES: Final = 1000
"""How many differences of two layers are kept; further ones are only counted."""


@dataclass(slots=True)
class PairCount:
    """What became of the rows of one pair of layers."""

    checked: int = 0
    differences: int = 0
    not_yet: int = 0
    not_auditable: int = 0


@dataclass(slots=True)
class Unaudited:
    """What could not be audited for one reason: how much, and from when to when."""

    count: int
    first: datetime
    last: datetime

    def add(self, time: datetime) -> None:
        """Count one more."""
        self.count += 1
        self.first = min(self.first, time)
        self.last = max(self.last, time)


@dataclass(slots=True)
class Findings:
    """Tallies by pair, the first differences of each, and what could not be audited."""

    counts: dict[Pair, PairCount] = field(default_factory=lambda: defaultdict(PairCount))
    unaudited: dict[tuple[Pair, str], Unaudited] = field(default_factory=dict)
    _kept: dict[Pair, list[Difference]] = field(default_factory=lambda: defaultdict(list))

    def checked(self, pair: Pair, rows: int, differences: Iterable[Difference]) -> None:
        """Count rows that were compared, and note the differences among them."""
        count = self.counts[pair]
        count.checked += rows
        for difference in differences:
            count.differences += 1
            if len(self._kept[pair]) < KEPT_DIFFERENCES:
                self._kept[pair].append(difference)

    def not_yet(self, pair: Pair, rows: int) -> None:
        """Count rows that are not ready to be compared."""
        self.counts[pair].not_yet += rows

    def not_auditable(self, pair: Pair, what: str, times: Iterable[datetime]) -> None:
        """Count what cannot be compared any more, e.g. windows by their starts."""
        for time in times:
            self.counts[pair].not_auditable += 1
            if (pair, what) in self.unaudited:
                self.unaudited[pair, what].add(time)
            else:
                self.unaudited[pair, what] = Unaudited(1, time, time)

    def in_order(self) -> list[tuple[Pair, PairCount]]:
        """Return the counts in the order of the layers."""
        return [(pair, self.counts[pair]) for pair in Pair if pair in self.counts]

    @property
    def total_checked(self) -> int:
        """Rows of all pairs that were compared."""
        return sum(t.checked for t in self.counts.values())

    @property
    def total_differences(self) -> int:
        """Differences of all pairs, kept or not."""
        return sum(t.differences for t in self.counts.values())

    @property
    def differences(self) -> list[Difference]:
        """The kept differences: by layers, then time, then symbol."""
        return sorted((d for kept in self._kept.values() for d in kept), key=lambda d: d.order)
