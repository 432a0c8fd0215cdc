"""What `tapeline status` sees of real services, before, while and after a tape comes through."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from tapeline.local.ports import free_port
from tapeline.local.service import LOOPBACK
from tapeline.status.bar_counts import BarCounts
from tapeline.status.check import check_health
from tapeline.status.health import problems_of
from tests.hand import TAPE, TRADES
from tests.pipeline import Pipeline

DAY_OF_TAPE = datetime(2024, 3, 15, 20, tzinfo=timezone.utc)
NEWEST = datetime(2024, 3, 15, 16, 30, tzinfo=timezone.utc)


def test_a_tape_is_followed_from_kafka_to_final_bars(pipeline: Pipeline) -> None:
    empty = check_health(pipeline.settings, pipeline.now)
    pipeline.send_tape(TAPE)
    sent = check_health(pipeline.settings, pipeline.now)
    waiting = check_health(pipeline.settings, datetime.now(timezone.utc) + timedelta(minutes=2))
    pipeline.ingest()
    pipeline.preview()
    ingested = check_health(pipeline.settings, DAY_OF_TAPE)
    late = check_health(pipeline.settings, datetime.now(timezone.utc) + timedelta(minutes=2))
    pipeline.finalize()
    finalized = check_health(pipeline.settings, DAY_OF_TAPE)

    assert empty.flow is not None
    assert (empty.flow.messages, empty.flow.newest_trade) == (0, None)
    assert problems_of(empty) == ["No producer reports: start one with `tapeline produce`."]

    assert sent.flow is not None
    assert (sent.flow.messages, sent.flow.unread) == (TRADES, TRADES)
    assert [(p.has_ended, p.symbols) for p in sent.flow.producers] == [(True, 2)]
    assert problems_of(sent) == []
    [problem] = problems_of(waiting)
    assert problem.startswith("17 messages have waited in Kafka for more than a minute")

    assert ingested.flow is not None
    assert (ingested.flow.unread, ingested.flow.newest_trade) == (0, NEWEST)
    assert ingested.flow.open_windows == 5
    assert ingested.bars == BarCounts(2, final=0, provisional=5, revised=0, incomplete=0)

    assert late.flow is not None
    assert late.flow.overdue == 5
    assert [p[:48] for p in problems_of(late)] == [
        "5 windows could have been finalized a minute ago"
    ]

    assert finalized.flow is not None
    assert (finalized.flow.open_windows, finalized.flow.overdue) == (0, 0)
    assert finalized.bars == BarCounts(2, final=5, provisional=0, revised=0, incomplete=0)
    assert problems_of(finalized) == []
    assert [*pipeline.client.progress_of_topics()] == [pipeline.topic_id]


def test_what_is_not_there_is_named_and_the_rest_is_looked_at(pipeline: Pipeline) -> None:
    nothing = pipeline.settings.with_target(topic="no_such_topic", keyspace="no_such_keyspace")
    cassandra = pipeline.settings.cassandra.model_copy(
        update={"host": LOOPBACK, "port": free_port(0)}
    )
    down = pipeline.settings.model_copy(update={"cassandra": cassandra})

    missing = problems_of(check_health(nothing, pipeline.now))
    silent = check_health(down, pipeline.now)

    assert missing[0].startswith("There is no topic no_such_topic: create it with")
    assert missing[1].startswith("Keyspace no_such_keyspace has no tables of Tapeline")
    assert [s.trouble is None for s in silent.services] == [True, False]
    assert problems_of(silent)[0].startswith(f"Cassandra does not answer at {LOOPBACK}:")
