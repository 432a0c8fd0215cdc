"""What is known when a report of a producer can be read, and when it cannot."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from structlog.testing import capture_logs

from tapeline.kafka.feed_reports import FeedReports
from tapeline.model.coverage import Coverage, ProducerView
from tapeline.model.gap import Gap, GapKind
from tests.statuses import a_status

AT = datetime(2026, 11, 20, 15, tzinfo=timezone.utc)
KEY = b"trades_raw|host"
STATUS = a_status("host", symbols=("A",), is_live=True, started_us=0, last_message_us=1 << 60)


def reports() -> FeedReports:
    found = FeedReports("trades_raw", "id")
    found.take_status(KEY, STATUS.to_bytes(), AT)
    return found


def is_complete(found: FeedReports) -> bool:
    views = [
        ProducerView(r.status, is_gone=False, reported_at=r.at) for r in found.statuses_of("id")
    ]
    coverage = Coverage((), ()).renewed(
        views, found.gaps, is_readable=found.is_readable_of("id", "trades_raw")
    )
    return coverage.is_complete("A", AT, AT + timedelta(minutes=5))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (KEY, b'{"of": "another time"}'),
        (b"trades_raw|other", b"no json"),
        (b"rubbish", b"rubbish"),
        (b"renamed|host", b'{"topic_id": "id"}'),
    ],
)
def test_while_a_status_cannot_be_read_no_bar_is_complete(key, value):
    found = reports()
    assert is_complete(found)

    with capture_logs() as events:
        found.take_status(key, value, AT)

    assert [(e["event"], e["log_level"]) for e in events] == [("unreadable_report", "error")]
    assert not is_complete(found)
    found.take_status(key, STATUS.to_bytes(), AT)
    assert is_complete(found)


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"demo|host", b"no json"), (b"renamed|host", b'{"topic_id": "other"}'), (b"demo|host", b"")],
)
def test_a_report_of_another_topic_and_a_withdrawn_one_need_not_be_read(key, value):
    found = reports()

    found.take_status(key, value, AT)

    assert is_complete(found)


def test_while_a_gap_cannot_be_read_no_bar_is_complete():
    found = reports()
    found.take_gap(b"id|host|lost|1", b'{"kind": 7}')
    assert not is_complete(found)

    other = reports()
    other.take_gap(b"other|host|lost|1", b'{"kind": 7}')
    assert is_complete(other)


def test_gaps_are_the_same_object_until_there_is_another_one():
    found = reports()
    gap = Gap("host", "trades_raw", "id", GapKind.IDLE, ("A",), 1, None, 2)
    found.take_gap(gap.key.encode(), gap.to_bytes())
    before = found.gaps

    assert before == (gap,)
    assert found.gaps is before
