from __future__ import annotations

import pytest

from tapeline.producer.lateness import Lateness

MINUTE_US = 60_000_000


def after(*late_ms: int) -> int:
    """Return what is known after frames whose newest trade was so late."""
    lateness = Lateness()
    for number, late in enumerate(late_ms):
        at_ms = 1_763_649_000_000 + 20 * number
        lateness.note((at_ms + late) * 1000, at_ms)
    return lateness.most_us


def test_nothing_is_known_before_the_first_frame():
    assert after() == 0


def test_it_is_the_mean_and_four_times_the_spread():
    """As RFC 6298 has it: S = R, V = R/2; then V = 3/4 V + 1/4 |S - R|, S = 7/8 S + 1/8 R."""
    assert after(100) == 100_000 + 4 * 50_000
    assert after(100, 300) == 125_000 + 4 * (37_500 + 50_000)


def test_a_steady_feed_is_as_late_as_its_trades():
    assert 25_000_000 <= after(*[25_000] * 60) < 25_001_000


def test_trades_of_the_future_are_not_late():
    assert after(-500) == 0


@pytest.mark.parametrize("late_ms", [90_000, 2_400_000])
def test_a_minute_is_the_most(late_ms):
    assert after(*[100] * 50, late_ms) == MINUTE_US
