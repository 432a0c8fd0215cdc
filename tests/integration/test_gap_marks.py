"""Final bars follow the gaps that become known; their days cost, not their number."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from tapeline.finalize.final_bars import reconcile
from tapeline.finalize.gap_marks import GapMarks
from tapeline.model.bar import Bar, Interval
from tapeline.model.coverage import Coverage, ProducerView
from tapeline.model.gap import Gap, GapKind
from tapeline.model.times import to_micros
from tapeline.storage.cassandra_client import CassandraClient
from tests.pipeline import Pipeline
from tests.sample import a_bar
from tests.statuses import a_status

MIDNIGHT = datetime(2026, 11, 20, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)
NOW = MIDNIGHT + timedelta(days=1)
DAY_S = 86_400
SLOW_S = 300
"""As long as a slow machine may take from a write to a look at it."""


def gap(start: datetime, end: datetime | None) -> Gap:
    ended_us = None if end is None else to_micros(end)
    first_us = to_micros(start)
    return Gap("p", "t", "id", GapKind.DISCONNECTED, ("AAPL",), first_us, ended_us, first_us)


def coverage(*gaps: Gap) -> Coverage:
    status = a_status(
        "p", symbols=("AAPL",), is_live=True, started_us=1, last_message_us=to_micros(NOW)
    )
    return Coverage([ProducerView(status, is_gone=False, reported_at=NOW)], gaps)


def write_final(client: CassandraClient, *bars: Bar) -> None:
    writes = [reconcile(None, bar, NOW) for bar in bars]
    client.write_final_bars(Interval.FIVE_MINUTES, [w for w in writes if w is not None])


def complete(client: CassandraClient) -> dict[datetime, bool | None]:
    found = client.bars("AAPL", Interval.FIVE_MINUTES, MIDNIGHT - timedelta(days=1), NOW)
    return {bar.window_start: bar.is_complete for bar in found}


def test_only_the_bars_that_a_gap_touches_are_marked_also_across_midnight(
    pipeline: Pipeline,
) -> None:
    """What was said of another bar of the same day stays: it may be of another topic."""
    starts = [MIDNIGHT + n * FIVE for n in range(-2, 3)]
    bars = [replace(a_bar(window_start=s), is_complete=True) for s in starts]
    bars[-1] = replace(bars[-1], is_complete=False)
    write_final(pipeline.client, *bars)
    found = gap(MIDNIGHT - timedelta(minutes=1), MIDNIGHT + timedelta(minutes=1))

    revised = GapMarks(pipeline.client, lambda: NOW).update([found], coverage(found))

    assert revised == 2
    expected = dict(zip(starts, [True, False, False, True, False], strict=True))
    assert complete(pipeline.client) == expected


def test_a_gap_of_weeks_ago_that_is_healed_now_revises_its_bars(pipeline: Pipeline) -> None:
    write_final(pipeline.client, replace(a_bar(window_start=MIDNIGHT), is_complete=False))
    old, weeks_later = gap(MIDNIGHT, MIDNIGHT + FIVE), NOW + timedelta(days=20)
    healed = old.healed_of(["AAPL"], to_micros(weeks_later), {})
    marks = GapMarks(pipeline.client, lambda: weeks_later)

    assert marks.update([old], coverage(old)) == 0
    assert marks.update([healed], coverage(healed)) == 1
    assert complete(pipeline.client) == {MIDNIGHT: True}


def test_a_day_of_bars_is_read_once_however_many_gaps_it_has(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart the gaps of a week are looked at again, at two seconds a round."""
    gaps = [
        gap(MIDNIGHT + n * timedelta(minutes=2), MIDNIGHT + n * timedelta(minutes=2.1))
        for n in range(600)
    ]
    write_final(pipeline.client, replace(a_bar(window_start=MIDNIGHT), is_complete=True))
    reads = []
    read = CassandraClient.bars
    monkeypatch.setattr(
        CassandraClient, "bars", lambda *arguments: reads.append(arguments) or read(*arguments)
    )
    marks = GapMarks(pipeline.client, lambda: NOW)

    revised = marks.update(gaps, coverage(*gaps))

    assert (revised, marks.is_done) == (1, True)
    assert len(reads) == len(Interval)


def test_rows_of_gaps_live_a_day_longer_than_the_bars_and_longer_while_the_gap_lasts(
    pipeline: Pipeline,
) -> None:
    lifetimes = {"silver_ttl_s": 2 * DAY_S, "gold_ttl_s": 5 * DAY_S}
    settings = pipeline.settings.cassandra.model_copy(update=lifetimes)
    endpoints = pipeline.endpoints
    client = CassandraClient(settings, endpoints.cassandra_host, endpoints.cassandra_port)
    with closing(client):
        client.create_schema()
        gaps = [gap(NOW - FIVE, NOW), gap(NOW, None)]
        clock = [NOW]
        marks = GapMarks(client, lambda: clock[0])
        marks.update(gaps, coverage(*gaps))
        at_first = left_s(client)
        # What is written from here on lives longer, which tells it from what is not.
        pipeline.session.execute(f"ALTER TABLE feed_gaps WITH default_time_to_live = {8 * DAY_S}")
        clock = [NOW + timedelta(hours=23)]
        marks.update(gaps, coverage(*gaps))
        within_a_day = left_s(client)
        clock = [NOW + timedelta(hours=24)]
        marks.update(gaps, coverage(*gaps))
        after_a_day = left_s(client)

    assert all(6 * DAY_S - SLOW_S <= s <= 6 * DAY_S for s in at_first)
    assert all(s <= 6 * DAY_S for s in within_a_day)
    assert after_a_day[0] <= 6 * DAY_S
    assert 8 * DAY_S - SLOW_S <= after_a_day[1] <= 8 * DAY_S


def left_s(client: CassandraClient) -> list[int]:
    """Return for how long the gaps will be known, by their start."""
    query = "SELECT TTL(detected_at) AS left_s FROM {keyspace}.feed_gaps WHERE topic_id = 'id'"
    return [row.left_s for row in client.rows(query)]
