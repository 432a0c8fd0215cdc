from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tapeline.model.times import EPOCH, LAST_TIME, within_reach

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
FAR_EAST = timezone(timedelta(hours=14))


@pytest.mark.parametrize(
    ("bound", "read"),
    [
        (NOON, NOON),
        (NOON.replace(tzinfo=None), NOON),
        (NOON.astimezone(FAR_EAST), NOON),
        (datetime.min, EPOCH),  # noqa: DTZ901 - without a zone on purpose
        (datetime(1, 1, 1, tzinfo=FAR_EAST), EPOCH),
        (datetime.max, LAST_TIME),  # noqa: DTZ901 - the same
        (datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=12))), LAST_TIME),
    ],
)
def test_a_bound_that_no_data_can_have_is_the_nearest_that_it_may(bound, read):
    assert within_reach(bound) == read
    assert within_reach(bound).utcoffset() is not None
