"""The Cassandra client on a real Cassandra."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session

from tapeline.local.discovery import Endpoints
from tapeline.model.bar import Bar, Interval
from tapeline.model.conditions import ALL, SIP
from tapeline.model.errors import SchemaError, ServiceUnavailableError, UsageError
from tapeline.model.times import floor_to, to_millis
from tapeline.program.service_settings import CassandraSettings
from tapeline.storage.cassandra_client import CassandraClient, RepeatingPolicy
from tapeline.storage.topics import TopicState
from tapeline.storage.windows import PartitionProgress, WindowState
from tests.pipeline import Pipeline

NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
FIVE = timedelta(minutes=5)


def bar(start: datetime, trade_count: int = 1, high: float | None = 2.0) -> Bar:
    end = start + timedelta(minutes=5)
    volume = Decimal("0.3")
    return Bar("X", start, end, 1.0, high, 1.0, 1.5, volume, Decimal("0.4"), 4 / 3, trade_count)


def test_a_bar_is_read_back_as_it_was_written(pipeline: Pipeline) -> None:
    written = bar(NOON)

    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(written, 10)])

    (read,) = pipeline.client.bars("X", Interval.FIVE_MINUTES, NOON, NOON + DAY)
    assert read == written
    stored = pipeline.client.stored_bars(Interval.FIVE_MINUTES, [("X", NOON), ("Y", NOON)])
    assert stored["X", NOON].write_time_us == 10
    assert ("Y", NOON) not in stored


def test_many_bars_written_at_once_keep_each_its_own_write_time(pipeline: Pipeline) -> None:
    """One symbol has more bars than a batch, others one each, and one spans two months."""
    client, interval = pipeline.client, Interval.FIVE_MINUTES
    five = timedelta(minutes=5)
    many = [bar(NOON + n * five, trade_count=n + 1) for n in range(230)]
    alone = [replace(bar(NOON), symbol=f"S{n}") for n in range(40)]
    months = [replace(bar(NOON + n * 20 * DAY), symbol="M") for n in range(3)]
    written = {
        (b.symbol, b.window_start): (b, 1_000 + 7 * n)
        for n, b in enumerate([*many, *alone, *months])
    }
    client.write_bars(interval, list(written.values()))
    older = {key: (replace(b, high=9.0), us - 1) for key, (b, us) in written.items()}
    client.write_bars(interval, list(older.values()))

    stored = client.stored_bars(interval, [*written, ("NONE", NOON), ("S1", NOON + five)])
    by_range = client.bars_of_ranges(
        interval,
        [("S1", NOON, NOON + five), ("X", NOON, NOON + 3 * five), ("NONE", NOON, NOON + five)],
    )
    of_one = client.stored_bars(interval, [(b.symbol, b.window_start) for b in many[::2]])

    assert {key: (s.bar, s.write_time_us) for key, s in stored.items()} == written
    assert by_range == [[alone[1]], many[:3], []]
    assert [s.bar for s in sorted(of_one.values(), key=lambda s: s.write_time_us)] == many[::2]


def test_an_older_write_time_never_replaces_a_bar_and_a_null_clears(pipeline: Pipeline) -> None:
    client, interval = pipeline.client, Interval.FIVE_MINUTES
    client.write_bars(interval, [(bar(NOON, trade_count=2), 20)])
    client.write_bars(interval, [(bar(NOON, trade_count=1), 10)])
    (kept,) = client.bars("X", interval, NOON, NOON + DAY)
    client.write_bars(interval, [(bar(NOON, trade_count=3, high=None), 30)])
    (cleared,) = client.bars("X", interval, NOON, NOON + DAY)

    assert kept.trade_count == 2
    assert (cleared.trade_count, cleared.high) == (3, None)


@pytest.mark.parametrize("interval", list(Interval))
def test_bars_are_read_in_order_across_months_and_years(
    pipeline: Pipeline, interval: Interval
) -> None:
    starts = [
        datetime(2023, 11, 30, 23, tzinfo=timezone.utc),
        datetime(2023, 12, 31, 23, tzinfo=timezone.utc),
        datetime(2024, 1, 1, 0, tzinfo=timezone.utc),
        datetime(2024, 2, 29, 12, tzinfo=timezone.utc),
        datetime(2024, 3, 1, 0, tzinfo=timezone.utc),
    ]
    pipeline.client.write_bars(interval, [(bar(s), 10) for s in reversed(starts)])

    read = pipeline.client.bars("X", interval, starts[0], starts[-1])

    assert [b.window_start for b in read] == starts[:-1]  # the end is not included


def test_what_a_busy_node_does_not_do_in_time_is_repeated(pipeline: Pipeline) -> None:
    profile = pipeline.client.session.get_execution_profile(EXEC_PROFILE_DEFAULT)

    assert isinstance(profile.retry_policy, RepeatingPolicy)


def test_the_newest_bars_are_found_in_whatever_month_they_are(pipeline: Pipeline) -> None:
    first, last = datetime(2024, 2, 29, 12, tzinfo=timezone.utc), NOON
    starts = {"X": first, "Y": last, "OLD": first - DAY}
    bars = [replace(bar(start), symbol=symbol) for symbol, start in starts.items()]
    bars += [replace(bar(last - DAY), symbol="Y"), replace(bar(last + DAY), symbol="Y")]
    client, interval = pipeline.client, Interval.FIVE_MINUTES
    client.write_bars(interval, [(b, 10) for b in bars])

    newest = client.newest_bars(["Y", "X", "OLD", "NONE"], interval, first, last + DAY)

    assert newest == bars[1::-1]


def test_progress_only_ever_rises(pipeline: Pipeline) -> None:
    client, topic = pipeline.client, "topic"
    client.write_progress(topic, [PartitionProgress(0, 100, NOON + DAY, NOON)])
    client.write_progress(topic, [PartitionProgress(0, 90, NOON, NOON + DAY)])
    client.write_progress(topic, [PartitionProgress(1, 5, None, None)])

    assert client.progress(topic) == {
        0: PartitionProgress(0, 100, NOON + DAY, NOON + DAY, read_offset=90),
        1: PartitionProgress(1, 5, None, None, read_offset=5),
    }


def test_how_far_all_is_finalized_never_sinks_and_the_slowest_that_moves_counts(
    pipeline: Pipeline,
) -> None:
    client = pipeline.client
    assert client.final_until() is None
    client.write_final_until("topic", NOON)
    client.write_final_until("topic", NOON - DAY)
    client.write_final_until("another", NOON - 2 * DAY)

    assert client.progress("topic") == {}
    assert client.final_until() == NOON - 2 * DAY
    client.write_topic_state("another", TopicState.OVER, NOON)
    assert client.final_until() == NOON
    client.write_progress("topic", [PartitionProgress(0, 1, None, None)])
    assert client.progress("topic").keys() == {0}


def test_nothing_counts_as_finalized_when_a_topic_is_read_again(pipeline: Pipeline) -> None:
    client, topic = pipeline.client, "topic"
    client.write_progress(topic, [PartitionProgress(0, 70_000, None, None)])
    client.write_finalized_bucket(topic, 0, 3)
    before = client.progress(topic)[0]

    client.start_over(topic)
    after = client.progress(topic)[0]

    assert (before.finalized_bucket, before.read_bucket) == (3, 3)
    assert (after.finalized_bucket, after.read_bucket) == (0, 0)
    assert after.committed_offset == 70_000


def test_a_window_is_due_until_its_offset_is_finalized(pipeline: Pipeline) -> None:
    client = pipeline.client
    state = WindowState("topic", 0, 0, NOON, "X", affected_offset=7)
    client.write_affected_windows([state])
    client.mark_finalized([state], Interval.FIVE_MINUTES)
    client.mark_finalized([state], Interval.ONE_HOUR)
    newer = WindowState("topic", 0, 0, NOON, "X", affected_offset=9)
    client.write_affected_windows([newer, state])

    (read,) = client.window_states("topic", 0, [0])

    assert (read.affected_offset, read.finalized_offset, read.hour_finalized_offset) == (9, 7, 7)


def test_many_windows_are_marked_at_once_each_by_its_own_offset(pipeline: Pipeline) -> None:
    client = pipeline.client
    states = [
        WindowState("topic", n % 2, n // 150, NOON + n * timedelta(minutes=5), f"S{n}", n + 10)
        for n in range(320)
    ]
    received = [replace(s, first_received_at=NOON + timedelta(seconds=7)) for s in states[:200]]
    client.write_affected_windows(states)
    client.mark_finalized(received, Interval.FIVE_MINUTES)
    client.mark_finalized(states[:100], Interval.ONE_HOUR)

    found = [s for p in (0, 1) for s in client.window_states("topic", p, [0, 1, 2])]

    assert sorted(found, key=lambda s: s.affected_offset) == [
        replace(
            s,
            finalized_offset=s.affected_offset if n < 200 else -1,
            hour_finalized_offset=s.affected_offset if n < 100 else -1,
            first_received_at=NOON + timedelta(seconds=7) if n < 200 else None,
        )
        for n, s in enumerate(states)
    ]


def test_trades_between_two_times_come_window_by_window_in_their_order(pipeline: Pipeline) -> None:
    client, ms = pipeline.client, timedelta(milliseconds=1)
    for time, trade_id in ((NOON, 2), (NOON, 1), (NOON + ms, 3), (NOON + FIVE, 4)):
        pipeline.session.execute(
            "INSERT INTO trades_silver (symbol, bucket, event_time, trade_id, received_at) "
            "VALUES ('X', %s, %s, %s, %s)",
            (floor_to(FIVE, time), time, trade_id, NOON),
        )

    def ids(start: datetime, end: datetime, *more: int) -> list[list[int]]:
        found = client.trades_between("X", start, end, *more)
        return [[trade[1] for trade in trades] for trades in found if trades]

    assert ids(NOON, NOON + 2 * FIVE) == [[1, 2, 3], [4]]
    assert ids(NOON, NOON + FIVE) == [[1, 2, 3]]
    assert ids(NOON + ms / 2, NOON + FIVE + ms / 2) == [[3], [4]]  # between two milliseconds
    assert ids(NOON - 365 * DAY, NOON + 365 * DAY) == [[1, 2, 3], [4]]  # too long to ask for each
    assert ids(NOON, NOON + DAY, 2, 1) == [[2], [4]]  # from an id on, one of each window at most
    noon_ms = to_millis(NOON)
    assert client.are_in_silver([("X", noon_ms, 1), ("X", noon_ms, 9)]) == [True, False]


def test_the_schema_may_be_applied_again_and_follows_the_settings(
    pipeline: Pipeline, stack: Endpoints
) -> None:
    settings = pipeline.settings.cassandra.model_copy(update={"bronze_ttl_s": 77})
    client = CassandraClient(settings, stack.cassandra_host, stack.cassandra_port)
    client.write_bars(Interval.FIVE_MINUTES, [(bar(NOON), 10)])

    client.create_schema()
    client.create_schema()

    options = pipeline.session.execute(
        "SELECT default_time_to_live AS ttl FROM system_schema.tables "
        "WHERE keyspace_name = %s AND table_name = 'trades_bronze'",
        (pipeline.name,),
    ).one()
    assert options.ttl == 77
    assert list(client.bars("X", Interval.FIVE_MINUTES, NOON, NOON + DAY)) == [bar(NOON)]
    client.close()


def replication_of(session: Session, keyspace: str) -> dict[str, str]:
    row = session.execute(
        "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s", (keyspace,)
    ).one()
    return {k: v for k, v in row.replication.items() if k != "class"}


def test_a_keyspace_whose_columns_had_other_names_is_refused(pipeline: Pipeline) -> None:
    """What waits there to be finalized would never be."""
    # By the client's own session: of what others alter, it hears up to two seconds later.
    table = f"{pipeline.name}.window_state"
    pipeline.client.session.execute(f"ALTER TABLE {table} ADD dirty_offset bigint")

    with pytest.raises(UsageError, match=f"DROP KEYSPACE {pipeline.name}"):
        pipeline.client.create_schema()


def test_a_default_takes_no_copies_from_a_keyspace_and_a_setting_changes_them(
    pipeline: Pipeline, stack: Endpoints
) -> None:
    """One that another program made has no tables yet, and gets none."""
    name, session = f"{pipeline.name}_x", pipeline.session
    session.execute(
        f"CREATE KEYSPACE {name} WITH replication = "
        "{'class': 'NetworkTopologyStrategy', 'datacenter1': '3'}"
    )

    def create(**chosen: int) -> None:
        settings = CassandraSettings(keyspace=name, **chosen)
        client = CassandraClient(settings, stack.cassandra_host, stack.cassandra_port)
        with closing(client):
            client.create_schema()

    try:
        with pytest.raises(UsageError, match="TAPELINE_CASSANDRA__REPLICATION_FACTOR to 3"):
            create()
        tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
        assert list(session.execute(tables, (name,))) == []
        assert replication_of(session, name) == {"datacenter1": "3"}

        create(replication_factor=3)
        assert replication_of(session, name) == {"datacenter1": "3"}
        create(replication_factor=4)
        assert replication_of(session, name) == {"datacenter1": "4"}
        create(replication_factor=1)
        assert replication_of(session, name) == {"datacenter1": "1"}
        create(silver_ttl_s=0)
        with pytest.raises(UsageError, match="TAPELINE_CASSANDRA__SILVER_TTL_S to 0"):
            create()
        create(silver_ttl_s=60)
    finally:
        session.execute(f"DROP KEYSPACE {name}")


def test_a_lifetime_of_bars_is_set_on_each_write(pipeline: Pipeline, stack: Endpoints) -> None:
    settings = pipeline.settings.cassandra.model_copy(update={"gold_ttl_s": 1000})
    client = CassandraClient(settings, stack.cassandra_host, stack.cassandra_port)

    client.write_bars(Interval.FIVE_MINUTES, [(bar(NOON), 10)])

    row = pipeline.session.execute("SELECT TTL(trade_count) AS ttl FROM trades_gold_5m").one()
    assert 700 <= row.ttl <= 1000
    client.close()


def test_a_missing_keyspace_and_a_missing_node_say_what_to_do(stack: Endpoints) -> None:
    settings = CassandraSettings(keyspace="not_there", request_timeout_s=20)
    client = CassandraClient(settings, stack.cassandra_host, stack.cassandra_port)

    with pytest.raises(SchemaError, match="tapeline init --keyspace not_there"):
        client.require_schema()
    client.close()
    with pytest.raises(ServiceUnavailableError, match="tapeline up"):
        CassandraClient(settings, stack.cassandra_host, 9)
    other = settings.model_copy(update={"local_datacenter": "dc1"})
    with pytest.raises(UsageError, match=r"no data centre dc1, only datacenter1: set TAPELINE_CAS"):
        CassandraClient(other, stack.cassandra_host, stack.cassandra_port)
    wrong = settings.model_copy(update={"keyspace": "a; DROP"})
    with pytest.raises(UsageError, match="is not a valid keyspace name"):
        CassandraClient(wrong, stack.cassandra_host, stack.cassandra_port)


def test_a_keyspace_keeps_to_one_policy_from_its_first_bar_on(pipeline: Pipeline) -> None:
    client = pipeline.client
    assert client.policy_of_bars() is None
    client.claim_policy(SIP)
    client.claim_policy(ALL)  # there is no bar yet
    assert client.policy_of_bars() == "all"

    client.write_bars(Interval.FIVE_MINUTES, [(replace(bar(NOON), policy="all"), 10)])
    client.claim_policy(ALL)
    with pytest.raises(UsageError) as caught:
        client.claim_policy(SIP)
    assert str(caught.value) == (
        f"Keyspace {pipeline.name} has bars of policy all, and sip was asked for: keep them with "
        "--policy all, or first make them again with "
        f"`tapeline rebuild gold --keyspace {pipeline.name} --policy sip`."
    )
    client.write_policy(SIP)  # as a rebuild of all bars does, though some may have expired
    client.claim_policy(SIP)
    with pytest.raises(UsageError, match="has bars of policy sip, and all was asked for"):
        client.claim_policy(ALL)


def test_a_keyspace_of_an_earlier_version_is_of_the_policy_of_its_bars(pipeline: Pipeline) -> None:
    by_file = replace(bar(NOON), policy="mine@0123456789")
    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(by_file, 10)])
    assert pipeline.client.policy_of_bars() == "mine@0123456789"
    with pytest.raises(UsageError, match=r"keep them with --policy FILE, or first make"):
        pipeline.client.claim_policy(SIP)
