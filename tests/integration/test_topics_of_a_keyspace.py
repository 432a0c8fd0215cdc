"""Several topics in one keyspace, and topics that are gone, on the real parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from rich.progress import Progress

from tapeline.audit.context import Scope
from tapeline.audit.findings import NO_TOPIC, Pair
from tapeline.audit.run import run_audit
from tapeline.consumer.spark_processor import ALL_LAYERS
from tapeline.finalize.bar_rules import BarRules
from tapeline.finalize.counted_empty import joined_late
from tapeline.finalize.gone_topics import GoneTopics
from tapeline.finalize.other_topics import OtherTopics
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.topics import (
    create_topics,
    delete_topic,
    living_topics,
    topic_admin,
    topic_id_of,
)
from tapeline.model.bar import Bar, Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.model.trade import Trade, encode_trade
from tapeline.read.bars import bars_between
from tapeline.storage.topics import TopicState
from tests.pipeline import Pipeline
from tests.sample import START, a_bar
from tests.statuses import send_status

NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)
FOUR_HOURS = ReadInterval.parse("4h")
DELAY = timedelta(minutes=10)


def send(pipeline: Pipeline, symbol: str, times: list[datetime]) -> None:
    """Send a trade of 10.0 at each time; its id is its millisecond."""
    now_us = int(datetime.now(timezone.utc).timestamp() * 1e6)
    messages = []
    for at in times:
        ms = int(at.timestamp() * 1000)
        trade = Trade(symbol, 10.0, 1.0, ms, None, ms, now_us, 0, "replay")
        messages.append((symbol, encode_trade(trade)))
    pipeline.send_messages(messages)


def report(pipeline: Pipeline, *, end_of_tape: bool) -> None:
    """Report as the producer of a tape does."""
    send_status(pipeline, "tape", end_of_tape=end_of_tape)


@contextmanager
def another_topic(pipeline: Pipeline) -> Iterator[Pipeline]:
    """A second topic that fills the same keyspace."""
    settings = pipeline.settings.with_target(topic=f"{pipeline.name}_two")
    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    create_topics(admin, settings.kafka)
    try:
        yield replace(
            pipeline,
            settings=settings,
            topic_id=topic_id_of(admin, settings.kafka.topic),
            folder=pipeline.folder / "two",
        )
    finally:
        delete_topic(admin, settings.kafka.topic)


def made_again(pipeline: Pipeline) -> Pipeline:
    """Delete the topic and create it again."""
    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    delete_topic(admin, pipeline.settings.kafka.topic)
    create_topics(admin, pipeline.settings.kafka)
    topic_id = topic_id_of(admin, pipeline.settings.kafka.topic)
    assert topic_id != pipeline.topic_id
    return replace(pipeline, topic_id=topic_id, folder=pipeline.folder / "again")


def states(pipeline: Pipeline) -> dict[str, TopicState]:
    return {t.topic_id: t.state for t in pipeline.client.topic_standings()}


def four_hours(pipeline: Pipeline, symbol: str) -> Bar:
    (bar,) = bars_between(pipeline.client, symbol, FOUR_HOURS, NOON, NOON + timedelta(hours=4))
    return bar


def gone_topics(pipeline: Pipeline) -> GoneTopics:
    rules = replace(BarRules.of(pipeline.settings), silver_ttl=timedelta(0), delay=DELAY)
    return GoneTopics(pipeline.spark, pipeline.client, rules)


def finalize_gone(pipeline: Pipeline, now: datetime) -> int:
    living = living_topics(topic_admin(pipeline.endpoints.bootstrap_servers))
    return gone_topics(pipeline).finalize(living.keys(), now)


def look_after_others(pipeline: Pipeline, now: datetime) -> int:
    """Do what a stream of the pipeline's topic does once a minute."""
    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    kafka = pipeline.settings.kafka
    with closing(FeedView(pipeline.endpoints.bootstrap_servers, kafka, pipeline.topic_id)) as feed:
        feed.snapshot(now)
        gone = gone_topics(pipeline)
        return OtherTopics(admin, feed, gone, pipeline.topic_id).look_after(now)


def test_a_longer_bar_is_not_final_before_every_topic_that_moves_has_passed_it(
    pipeline: Pipeline,
) -> None:
    """A tape of one day is replayed beside a feed of today.

    today's topic   finalized until today ───────────────────────────▶
    the tape        12:00 ─ 13:00 ─ half of it here │ 14:00 ─ 15:59
    the 4h bar      12:00 ──────────────────────────────────── 16:00
    """
    now = datetime.now(timezone.utc)
    send(pipeline, "LIVE", [now])
    pipeline.ingest(ALL_LAYERS)
    pipeline.now = now + timedelta(minutes=80)
    pipeline.finalize()
    until = pipeline.client.final_until()
    with another_topic(pipeline) as tape:
        tape.now = now
        report(tape, end_of_tape=False)
        send(tape, "TEST", [NOON + n * timedelta(minutes=5) for n in range(24)])
        send(tape, "OTHER", [NOON + timedelta(hours=2, minutes=20)])
        tape.ingest(ALL_LAYERS)
        tape.finalize()
        half = four_hours(tape, "TEST")
        parts = [b.is_final for (s, _), b in tape.bars().items() if s == "TEST"]
        held_until = tape.client.final_until()

        send(
            tape, "TEST", [NOON + timedelta(hours=2) + n * timedelta(minutes=5) for n in range(24)]
        )
        report(tape, end_of_tape=True)
        tape.ingest(ALL_LAYERS)
        tape.finalize()
        whole = four_hours(tape, "TEST")

        assert until is not None
        assert until > now
        assert parts == [True] * 24
        assert (half.trade_count, half.is_final, half.is_complete) == (24, False, None)
        assert held_until == NOON + timedelta(hours=2, minutes=10)
        assert (whole.trade_count, whole.is_final, whole.revision) == (48, True, 1)
        assert states(tape) == {pipeline.topic_id: TopicState.OVER, tape.topic_id: TopicState.OVER}
        assert tape.client.final_until() == until


def test_a_trade_that_fills_an_empty_window_of_a_final_longer_bar_is_a_revision(
    pipeline: Pipeline,
) -> None:
    send(pipeline, "TEST", [NOON, NOON + timedelta(hours=5)])
    report(pipeline, end_of_tape=True)
    pipeline.ingest(ALL_LAYERS)
    pipeline.finalize()
    before = four_hours(pipeline, "TEST")
    send(pipeline, "TEST", [NOON + timedelta(hours=2)])
    pipeline.ingest(ALL_LAYERS)
    pipeline.finalize()
    after = four_hours(pipeline, "TEST")

    assert (before.trade_count, before.is_final, before.revision) == (1, True, 1)
    assert (after.trade_count, after.is_final, after.revision) == (2, True, 2)
    part = pipeline.bars()["TEST", NOON + timedelta(hours=2)]
    assert (part.revision, part.reason) == (2, "late_trade")


def test_a_backfill_into_a_day_that_was_final_revises_the_longer_bars_that_it_changes(
    pipeline: Pipeline,
) -> None:
    """Two hours of TEST were final; a tape brings what was missing of them, and another symbol.

    first topic    12:00 ────────────────────────── 17:00
    the tape             12:10 ─ 14:00
    """
    pipeline.now = datetime.now(timezone.utc)
    send(pipeline, "TEST", [NOON, NOON + timedelta(hours=5)])
    report(pipeline, end_of_tape=True)
    pipeline.ingest(ALL_LAYERS)
    pipeline.finalize()
    before = longer(pipeline, "TEST", "15m"), longer(pipeline, "TEST", "4h")
    with another_topic(pipeline) as tape:
        tape.now = pipeline.now + timedelta(seconds=1)
        times = [NOON + timedelta(minutes=10), NOON + timedelta(hours=2)]
        send(tape, "TEST", times)
        send(tape, "OTHER", times)
        report(tape, end_of_tape=True)
        tape.ingest(ALL_LAYERS)
        tape.finalize()
        after = longer(tape, "TEST", "15m"), longer(tape, "TEST", "4h")
        other = longer(tape, "OTHER", "4h")

    assert before == ((1, True, 1), (1, True, 1))
    # A quarter has one part more, of revision 2; of four hours 12:00 was revised, 14:00 joined.
    assert after == ((2, True, 2), (3, True, 3))
    assert other == (2, True, 1)


def longer(pipeline: Pipeline, symbol: str, interval: str) -> tuple[int, bool, int]:
    """Return trades, finality and revision of the bar that begins at noon."""
    length = ReadInterval.parse(interval)
    (bar,) = bars_between(pipeline.client, symbol, length, NOON, NOON + length.duration)
    return bar.trade_count, bar.is_final, bar.revision


def test_windows_of_a_topic_that_was_made_again_become_final_and_incomplete(
    pipeline: Pipeline,
) -> None:
    now = datetime.now(timezone.utc)
    send(pipeline, "TEST", [NOON, NOON + timedelta(hours=1)])
    pipeline.ingest(ALL_LAYERS)
    again = made_again(pipeline)

    early = look_after_others(again, now)  # it was read a moment ago: perhaps it still lives
    provisional = again.bars()
    finalized = look_after_others(again, now + timedelta(minutes=11))
    bars = [*again.bars().values(), *again.bars(Interval.ONE_HOUR).values()]

    assert early == 0
    assert not any(bar.is_final for bar in provisional.values())
    assert finalized == 4
    found = {(b.is_final, b.is_complete, b.revision, b.reason, b.trade_count) for b in bars}
    assert found == {(True, False, 1, "topic_gone", 1)}
    assert states(again)[pipeline.topic_id] is TopicState.OVER
    assert look_after_others(again, now + timedelta(minutes=12)) == 0


def test_the_audit_names_windows_of_a_gone_topic_until_they_are_final(pipeline: Pipeline) -> None:
    send(pipeline, "TEST", [NOON])
    pipeline.ingest(ALL_LAYERS)
    again = made_again(pipeline)
    send(again, "NEW", [NOON])
    report(again, end_of_tape=True)
    again.ingest(ALL_LAYERS)
    again.now = datetime.now(timezone.utc)
    again.finalize()

    before = run_audit(again.settings, Scope(), None, Progress(disable=True))
    finalize_gone(again, again.now + timedelta(minutes=11))
    after = run_audit(again.settings, Scope(), None, Progress(disable=True))

    for pair in (Pair.SILVER_GOLD, Pair.GOLD_HOURS):
        assert before.unaudited[pair, NO_TOPIC].count == 1
        count = before.counts[pair]
        assert (count.checked, count.not_yet, count.not_auditable) == (1, 0, 1)
        assert (after.counts[pair].checked, after.counts[pair].not_auditable) == (2, 0)
    assert (before.total_differences, after.total_differences) == (0, 0)


def test_a_gone_topic_of_a_tape_that_had_ended_leaves_complete_bars(pipeline: Pipeline) -> None:
    send(pipeline, "TEST", [NOON])
    report(pipeline, end_of_tape=True)
    pipeline.ingest(ALL_LAYERS)
    ended_at = datetime.now(timezone.utc)
    pipeline.client.write_topic_state(pipeline.topic_id, TopicState.ENDED, ended_at)
    again = made_again(pipeline)

    finalize_gone(again, datetime.now(timezone.utc) + timedelta(minutes=11))

    bar = again.bars()["TEST", NOON]
    assert (bar.is_final, bar.is_complete, bar.revision, bar.reason) == (True, True, 1, None)


def test_a_window_of_a_gone_topic_waits_for_the_living_ones(pipeline: Pipeline) -> None:
    send(pipeline, "TEST", [NOON])
    pipeline.ingest(ALL_LAYERS)
    again = made_again(pipeline)
    send(again, "TEST", [NOON + timedelta(minutes=1), NOON + timedelta(minutes=12)])
    report(again, end_of_tape=False)
    again.ingest(ALL_LAYERS)
    again.now = datetime.now(timezone.utc)
    again.finalize()
    later = again.now + timedelta(minutes=11)

    before = finalize_gone(again, later)
    waits = again.bars()["TEST", NOON].is_final
    send(again, "TEST", [NOON + timedelta(minutes=40)])
    again.ingest(ALL_LAYERS)
    again.finalize()
    finalize_gone(again, later)

    assert (before, waits) == (0, False)
    bar = again.bars()["TEST", NOON]
    assert (bar.is_final, bar.trade_count, bar.revision) == (True, 2, 1)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_topic_whose_producers_have_left_holds_nothing_back_once_it_is_read(
    pipeline: Pipeline,
    is_read: bool,  # noqa: FBT001 - a case of the test
) -> None:
    """Its stream has been stopped, and nobody says that it is over."""
    now = datetime.now(timezone.utc)
    with another_topic(pipeline) as left:
        send(left, "LEFT", [NOON])
        left.ingest(ALL_LAYERS)
        left.now = now
        left.finalize()
        assert not left.bars()["LEFT", NOON].is_final
        if not is_read:
            send(left, "LEFT", [NOON + timedelta(hours=1)])

        look_after_others(pipeline, now + timedelta(minutes=12))

        expected = TopicState.OVER if is_read else TopicState.MOVING
        assert states(pipeline) == {left.topic_id: expected}
        bar = left.bars()["LEFT", NOON]
        assert (bar.is_final, bar.is_complete) == ((True, True) if is_read else (False, None))
        if is_read:
            send(left, "LEFT", [NOON + timedelta(hours=1)])
            look_after_others(pipeline, now + timedelta(minutes=12))
            assert states(pipeline) == {left.topic_id: TopicState.MOVING}


def test_a_day_with_a_final_bar_that_was_revised_since_counts_as_final_before(
    pipeline: Pipeline,
) -> None:
    """When a revised bar was first final is not known, so the longer bars are revised too."""
    began = START + timedelta(days=1)
    later = began + timedelta(minutes=1)
    stored = [
        a_bar(symbol=symbol, is_final=True, revision=revision, updated_at=updated_at)
        for symbol, revision, updated_at in (
            ("REVISED", 2, later),
            ("OLDER", 1, began - timedelta(minutes=1)),
            ("NEWER", 1, later),
        )
    ]
    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(bar, 1) for bar in stored])
    new = [a_bar(symbol=b.symbol, window_start=START + timedelta(minutes=5)) for b in stored]

    found = joined_late(pipeline.client, Interval.FIVE_MINUTES, new, began, began)

    assert {symbol for symbol, _ in found} == {"REVISED", "OLDER"}
