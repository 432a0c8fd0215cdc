"""A gap whose trades were fetched marks bars until they have these trades."""

from __future__ import annotations

from dataclasses import replace

from tapeline.finalize.healed_gaps import HealedGaps
from tapeline.model.gap import Gap, GapKind
from tapeline.storage.windows import PartitionProgress

OTHER = Gap("p", "t", "id", GapKind.DISCONNECTED, ("A", "B"), 1, 2, 1)
LOST = replace(OTHER, started_us=10, ended_us=20)
HEALED_A = LOST.healed_of("A", 30, {0: 5, 1: 7})
HEALED = HEALED_A.healed_of("B", 40, {0: 5, 1: 9})


def progress(*committed: int) -> dict[int, PartitionProgress]:
    return {p: PartitionProgress(p, offset, None, None) for p, offset in enumerate(committed)}


def missing(gaps: HealedGaps, *reported: Gap) -> list[set[str]]:
    return [set(gap.symbols) for gap in gaps.of(reported)]


def test_it_counts_until_all_bars_are_made_from_what_kafka_had_then():
    gaps = HealedGaps()
    assert missing(gaps, OTHER, HEALED_A) == [{"A", "B"}, {"A", "B"}]
    gaps.all_in_bars(progress(5, 6))
    assert missing(gaps, OTHER, HEALED_A) == [{"A", "B"}, {"A", "B"}]
    gaps.all_in_bars(progress(5, 7))
    assert missing(gaps, OTHER, HEALED_A) == [{"A", "B"}, {"B"}]


def test_one_symbol_that_is_healed_later_does_not_take_the_others_back():
    gaps = HealedGaps()
    missing(gaps, HEALED_A)
    gaps.all_in_bars(progress(9, 8))
    assert missing(gaps, HEALED_A) == [{"B"}]
    assert missing(gaps, HEALED) == [{"B"}]
    gaps.all_in_bars(progress(9, 9))
    assert missing(gaps, HEALED) == [set()]
    (found,) = gaps.of((HEALED,))
    assert found == HEALED


def test_what_needs_no_trade_is_healed_with_the_next_bars():
    gaps = HealedGaps()
    healed = LOST.healed_of("A", 30, {})
    assert missing(gaps, healed) == [{"A", "B"}]
    gaps.all_in_bars({})
    assert missing(gaps, healed) == [{"B"}]


def test_the_same_gaps_are_the_same_object_while_nothing_is_new():
    gaps, plain, healed = HealedGaps(), (OTHER, LOST), (OTHER, HEALED_A)
    assert gaps.of(plain) is plain
    waiting = gaps.of(healed)
    assert gaps.of(healed) is waiting
    gaps.all_in_bars(progress(4, 4))
    assert gaps.of(healed) is waiting
    gaps.all_in_bars(progress(5, 7))
    assert gaps.of(healed) is healed
