"""A gap whose trades were fetched marks bars until they have these trades."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tapeline.finalize.healed_gaps import HealedGaps
from tapeline.model.gap import Gap, GapKind
from tapeline.storage.windows import PartitionProgress

OTHER = Gap("p", "t", "id", GapKind.DISCONNECTED, ("A", "B"), 1, 2, 1)
LOST = replace(OTHER, started_us=10, ended_us=20)
HEALED_A = LOST.healed_of(["A"], 30, {0: 5, 1: 7})
HEALED = HEALED_A.healed_of(["B"], 40, {1: 9})


class Told:
    """Tells which symbols each gap is still known to lack."""

    def __init__(self) -> None:
        self.gaps = HealedGaps()

    def missing(
        self, *reported: Gap, committed: tuple[int, ...] = (), late: Collection[str] = ()
    ) -> list[set[str]]:
        progress = {p: PartitionProgress(p, n, None, None) for p, n in enumerate(committed)}
        return [set(gap.symbols) for gap in self.gaps.of(reported, progress, lambda: late)]


def test_it_counts_until_silver_has_what_kafka_had_then_and_the_bars_were_made_again():
    told = Told()
    assert told.missing(OTHER, HEALED_A) == [{"A", "B"}, {"A", "B"}]
    assert told.missing(OTHER, HEALED_A, committed=(5, 6)) == [{"A", "B"}, {"A", "B"}]
    late = told.missing(OTHER, HEALED_A, committed=(5, 7), late={"A"})
    assert late == [{"A", "B"}, {"A", "B"}]
    assert told.missing(OTHER, HEALED_A, committed=(5, 7), late={"B"}) == [{"A", "B"}, {"B"}]
    assert told.missing(OTHER, HEALED_A, committed=(5, 7), late={"A"}) == [{"A", "B"}, {"B"}]


def test_one_symbol_that_is_healed_later_does_not_take_the_others_back():
    told = Told()
    assert HEALED.healed_offsets == {0: 5, 1: 9}
    assert told.missing(HEALED_A, committed=(9, 8)) == [{"B"}]
    assert told.missing(HEALED, committed=(9, 8)) == [{"B"}]
    assert told.missing(HEALED, committed=(9, 9)) == [set()]


def test_what_is_missing_again_has_to_be_healed_again():
    told = Told()
    assert told.missing(HEALED_A, committed=(9, 9)) == [{"B"}]
    assert told.missing(LOST, committed=(9, 9)) == [{"A", "B"}]
    again = LOST.healed_of(["A"], 50, {0: 12})
    assert told.missing(again, committed=(11, 9)) == [{"A", "B"}]
    assert told.missing(again, committed=(12, 9)) == [{"B"}]


def test_the_same_gaps_are_the_same_object_while_nothing_is_new():
    gaps, plain, healed = HealedGaps(), (OTHER, LOST), (OTHER, HEALED_A)
    at = [{p: PartitionProgress(p, n, None, None) for p in (0, 1)} for n in (4, 9)]
    assert gaps.of(plain, {}, tuple) is plain
    waiting = gaps.of(healed, {}, tuple)
    assert gaps.of(healed, at[0], tuple) is waiting
    assert gaps.of(healed, at[1], tuple) is healed
