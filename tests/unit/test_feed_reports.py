"""What is known when a report of a producer can be read, and when it cannot."""

from __future__ import annotations

from dataclasses import replace
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


GAP = Gap("host", "trades_raw", "id", GapKind.DISCONNECTED, ("A", "B"), 10, 20, 12)


def after(*reported: tuple[str, Gap]) -> Gap:
    found = reports()
    for key, gap in reported:
        found.take_gap(key.encode(), gap.to_bytes())
    (gap,) = found.gaps
    return gap


def test_what_another_process_has_healed_stays_whoever_reports_last():
    own = (GAP.key, GAP.healed_of(["A"], 30, {0: 5, 1: 9}))
    others = (GAP.healed_key, GAP.healed_of(["B"], 40, {0: 7}))
    for first, second in ((own, others), (others, own)):
        found = after((GAP.key, GAP), first, second)
        assert (found.symbols, set(found.healed)) == ((), {"A", "B"})
        assert (found.healed_us, found.healed_offsets) == (40, {0: 7, 1: 9})


def test_it_is_healed_once_where_both_say_so():
    own, others = GAP.healed_of(["A"], 30, {0: 5}), GAP.healed_of(["A"], 40, {0: 7})
    assert after((GAP.key, own), (GAP.healed_key, others)) == own


@pytest.mark.parametrize(
    "now", [replace(GAP, detected_us=13), replace(GAP, ended_us=21), replace(GAP, symbols=("C",))]
)
def test_it_proves_nothing_of_a_gap_that_has_become_another_since(now):
    """More numbers were left out, or it was longer than was known."""
    others = (GAP.healed_key, GAP.healed_of(["A"], 40, {0: 7}))
    for order in ([others, (GAP.key, now)], [(GAP.key, now), others]):
        assert after((GAP.key, GAP), *order) == now


def test_a_gap_whose_end_its_producer_never_told_ends_when_it_is_healed():
    """The end was that of the next gap of this producer."""
    found = after(
        (GAP.key, replace(GAP, ended_us=None)), (GAP.healed_key, GAP.healed_of(["A"], 4, {}))
    )
    assert (found.symbols, found.healed, found.ended_us) == (("B",), ("A",), 20)


def test_what_is_healed_of_a_gap_that_is_not_reported_is_none():
    found = reports()
    found.take_gap(GAP.healed_key.encode(), GAP.healed_of(["A"], 4, {}).to_bytes())
    assert found.gaps == ()
