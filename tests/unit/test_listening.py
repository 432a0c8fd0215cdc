"""How long Kafka has answered, as the one who asks sees it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tapeline.kafka.listening import Listening

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def listened_s(*answers: float | None) -> float:
    """Return for how long Kafka answered, asked at these seconds; None is no answer."""
    listening = Listening()
    for second in answers:
        before = listening.asks()
        if second is not None:
            listening.answered(before, NOON + timedelta(seconds=second))
    return listening.total.total_seconds()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((5,), 0),
        ((5, 7, 10), 5),
        ((5, 7, None, 700, 702), 4),  # it was away in between
        ((5, None), 0),
        ((5, 1000, 1002), 32),  # the process was stopped in between
        ((5, 2, 4), 2),  # the clock was set back
    ],
)
def test_time_counts_between_two_answers_and_half_a_minute_at_most(answers, expected):
    assert listened_s(*answers) == expected
