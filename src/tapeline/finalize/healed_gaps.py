"""Gaps whose trades were fetched since count as gaps until the bars have these trades.

The report that a gap is healed comes when Kafka has the trades. Until they are in silver, and the
final bars that they belong to are made again, the gap still marks those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from tapeline.model.gap import Gap
from tapeline.storage.windows import PartitionProgress


class HealedGaps:
    """Takes healed gaps for what they were, for as long as bars lack their trades."""

    def __init__(self) -> None:
        self._reported: Sequence[Gap] = ()
        self._in_bars: set[tuple[str, str]] = set()
        self._waiting: list[tuple[Gap, str]] = []
        """Healed symbols of gaps whose trades the bars may lack."""
        self._as_known: Sequence[Gap] = ()

    def of(
        self,
        reported: Sequence[Gap],
        progress: Mapping[int, PartitionProgress],
        late: Callable[[], Collection[str]],
    ) -> Sequence[Gap]:
        """Return the gaps as they mark bars: the same object while there is nothing new.

        Args:
            reported: by producers; the same object while no more are.
            progress: of the topic's partitions.
            late: tells the symbols of which a final bar lacks trades that lie up to there; asked
                only while a healed gap waits.
        """
        if reported is not self._reported:
            self._reported = reported
            missing = {(gap.key, symbol) for gap in reported for symbol in gap.symbols}
            self._in_bars -= missing  # healed once, and reported as missing again
            self._work_out()
        if self._waiting:
            committed = {p: known.committed_offset for p, known in progress.items()}
            not_yet = late()
            done = [
                (gap.key, symbol)
                for gap, symbol in self._waiting
                if symbol not in not_yet
                and all(committed.get(p, -1) >= at for p, at in gap.healed_offsets.items())
            ]
            if done:
                self._in_bars.update(done)
                self._work_out()
        return self._as_known

    def _work_out(self) -> None:
        """Keep what the producers reported where it stands, since it may be much."""
        self._waiting = [
            (gap, symbol)
            for gap in self._reported
            for symbol in gap.healed
            if (gap.key, symbol) not in self._in_bars
        ]
        found = tuple(map(self._as_bars_know, self._reported))
        is_as_reported = all(a is b for a, b in zip(found, self._reported, strict=True))
        self._as_known = self._reported if is_as_reported else found

    def _as_bars_know(self, gap: Gap) -> Gap:
        waiting = [s for s in gap.healed if (gap.key, s) not in self._in_bars]
        return gap.with_missing(waiting) if waiting else gap
