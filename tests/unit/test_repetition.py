"""What the Cassandra client does when a node answers that it took too long."""

from __future__ import annotations

import pytest
from cassandra import ConsistencyLevel
from cassandra.policies import RetryPolicy

from tapeline.storage.cassandra_client import RepeatingPolicy

# What the driver adds, by the kind of the server's answer.
INFO = {
    "on_read_timeout": {"data_retrieved": False},
    "on_write_timeout": {"write_type": 0},
}


@pytest.mark.parametrize("event", list(INFO))
def test_what_took_too_long_is_asked_four_times_at_the_same_consistency(event):
    decide = getattr(RepeatingPolicy(), event)
    info = {"consistency": ConsistencyLevel.LOCAL_QUORUM, "required_responses": 1}
    decisions = [
        decide("query", retry_num=n, received_responses=0, **info, **INFO[event]) for n in range(4)
    ]
    assert decisions[:3] == [(RetryPolicy.RETRY, ConsistencyLevel.LOCAL_QUORUM)] * 3
    assert decisions[3][0] == RetryPolicy.RETHROW
