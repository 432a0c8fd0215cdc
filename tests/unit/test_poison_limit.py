"""When a stream stops since most of what comes is no trade."""

from __future__ import annotations

from collections import Counter

import pytest

from tapeline.consumer.poison_limit import PoisonLimit
from tapeline.model.errors import PoisonError


def bad(count: int, reason: str = "undecodable") -> Counter[str]:
    return Counter({reason: count} if count else {})


def test_one_bad_message_in_a_thousand_passes_forever():
    limit = PoisonLimit(0.5, 1_000)
    for _ in range(50):
        limit.check(10_000, bad(10))

    assert limit.share == pytest.approx(0.001)
    assert limit.error is None


def test_a_whole_batch_of_bad_messages_stops_with_its_reasons():
    limit = PoisonLimit(0.5, 1_000)
    with pytest.raises(
        PoisonError, match=r"900 of the newest 1,000 .*unknown_schema 600, bad_time 300"
    ):
        limit.check(1_000, Counter(unknown_schema=600, bad_time=300))

    assert limit.error is not None
    assert (limit.error.exit_code, limit.share) == (8, 0.9)


def test_a_trickle_of_bad_messages_is_judged_once_there_are_enough():
    #  ten a batch, all of them bad: the hundredth batch makes a thousand
    limit = PoisonLimit(0.5, 1_000)
    for _ in range(99):
        limit.check(10, bad(10))

    with pytest.raises(PoisonError, match="1,000 of the newest 1,000"):
        limit.check(10, bad(10))


def test_half_of_them_is_not_yet_too_many():
    limit = PoisonLimit(0.5, 1_000)
    limit.check(1_000, bad(500))

    with pytest.raises(PoisonError):
        limit.check(1_000, bad(501))


def test_good_messages_of_long_ago_do_not_hide_bad_ones_of_now():
    limit = PoisonLimit(0.5, 1_000)
    for _ in range(100):
        limit.check(500, bad(0))
    limit.check(500, bad(500))  # the newest 1,000: half and half

    with pytest.raises(PoisonError, match="1,000 of the newest 1,000"):
        limit.check(500, bad(500))


def test_an_empty_batch_changes_nothing():
    limit = PoisonLimit(0.5, 1_000)
    limit.check(0, bad(0))
    assert limit.share == 0

    limit.check(999, bad(999))
    limit.check(0, bad(0))
    assert limit.error is None


@pytest.mark.parametrize("share", [1.0, 2.0])
def test_a_limit_of_one_never_stops(share):
    limit = PoisonLimit(share, 1_000)
    limit.check(5_000, bad(5_000))

    assert limit.error is None
