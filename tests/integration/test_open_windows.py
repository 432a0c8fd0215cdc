"""What a finalizer remembers of the windows that are not done, on a real Cassandra."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tapeline.consumer import recently_affected
from tapeline.consumer.recently_affected import RecentlyAffected
from tapeline.finalize import open_windows
from tapeline.finalize.horizon import Horizon
from tapeline.finalize.open_windows import OpenWindows, in_chunks
from tapeline.model.bar import Interval
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS, PartitionProgress, WindowState
from tests.pipeline import Pipeline

NOON = datetime(2024, 3, 15, 12, tzinfo=timezone.utc)
ALL = Horizon(everything=True, until=None)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def state(minutes: int, symbol: str, offset: int) -> WindowState:
    return WindowState("topic", 0, offset // WINDOW_BUCKET_OFFSETS, at(minutes), symbol, offset)


def commit(pipeline: Pipeline, *states: WindowState) -> dict[int, PartitionProgress]:
    """Store windows and how far that is, as a micro-batch does."""
    pipeline.client.write_affected_windows(states)
    newest = max(s.affected_offset for s in states)
    pipeline.client.write_progress("topic", [PartitionProgress(0, newest, None, None)])
    return pipeline.client.progress("topic")


def test_windows_are_due_up_to_the_horizon_by_hour_and_symbol(pipeline: Pipeline) -> None:
    windows = OpenWindows(pipeline.client, "topic")
    states = state(10, "B", 1), state(0, "B", 2), state(5, "A", 3), state(60, "A", 4)
    windows.read(commit(pipeline, *states))

    assert list(windows.due_windows(Horizon(everything=False, until=at(4)))) == []
    assert list(windows.due_windows(Horizon(everything=False, until=at(10)))) == [
        ("A", at(5)),
        ("B", at(0)),
    ]
    assert list(windows.due_windows(ALL)) == [
        ("A", at(5)),
        ("B", at(0)),
        ("B", at(10)),
        ("A", at(60)),
    ]


def test_an_hour_is_due_when_all_its_windows_are_finalized(pipeline: Pipeline) -> None:
    first, second, other = state(0, "A", 1), state(55, "A", 2), state(30, "B", 3)
    windows = OpenWindows(pipeline.client, "topic")
    windows.read(commit(pipeline, first, second, other))
    hour = Horizon(everything=False, until=at(60))

    windows.update([replace(s, finalized_offset=s.affected_offset) for s in (first, other)])
    assert list(windows.due_hours(hour)) == [("B", NOON)]
    windows.update([replace(second, finalized_offset=2)])
    assert set(windows.due_hours(hour)) == {("A", NOON), ("B", NOON)}
    assert list(windows.due_hours(Horizon(everything=False, until=at(59)))) == []
    windows.remove([first, second])
    assert list(windows.due_hours(hour)) == [("B", NOON)]


@pytest.mark.parametrize("is_earlier_run", [False, True])
def test_a_symbol_is_late_while_a_bar_or_an_hour_that_may_be_final_lacks_trades(
    pipeline: Pipeline, is_earlier_run
) -> None:
    """Windows of A and B, five minutes from noon; an hour that is not over will have them all."""
    first, second = state(0, "A", 1), state(0, "B", 2)
    windows = OpenWindows(pipeline.client, "topic")
    windows.read(commit(pipeline, first, second))

    def late(until_minutes: int) -> set[str]:
        if is_earlier_run:
            return windows.late_symbols(at(until_minutes))
        windows.due_windows(Horizon(everything=False, until=at(until_minutes)))
        return windows.late_symbols(None)

    assert late(4) == set()
    assert late(5) == {"A", "B"}
    windows.update([replace(first, finalized_offset=1)])
    assert late(59) == {"B"}
    assert late(60) == {"A", "B"}
    windows.update([replace(second, finalized_offset=2)])
    assert late(60) == {"A", "B"}
    windows.remove([first])
    assert late(60) == {"B"}


def test_a_late_trade_makes_a_window_and_its_hour_due_again(pipeline: Pipeline) -> None:
    early = state(0, "A", 1)
    progress = commit(pipeline, early)
    pipeline.client.mark_finalized([early], Interval.FIVE_MINUTES)
    pipeline.client.mark_finalized([early], Interval.ONE_HOUR)
    windows = OpenWindows(pipeline.client, "topic")
    windows.read(progress)
    nothing = windows.due_windows(ALL), windows.one_of_each_start()

    windows.read(commit(pipeline, state(0, "A", 7)))

    assert nothing == ({}, [])
    assert list(windows.due_windows(ALL)) == [("A", at(0))]
    assert [s.affected_offset for s in windows.one_of_each_start()] == [7]


def test_what_was_forgotten_is_read_again(pipeline: Pipeline) -> None:
    early = state(0, "A", 1)
    progress = commit(pipeline, early)
    windows = OpenWindows(pipeline.client, "topic")
    windows.read(progress)
    windows.update([replace(early, finalized_offset=1)])  # its mark was lost in Cassandra
    known = list(windows.due_windows(ALL))

    windows.forget()
    windows.read(progress)

    assert known == []
    assert list(windows.due_windows(ALL)) == [("A", at(0))]


def test_the_start_of_the_next_life_moves_on_when_a_bucket_is_done(pipeline: Pipeline) -> None:
    old, new = state(0, "A", 5), state(5, "A", 3 * WINDOW_BUCKET_OFFSETS)
    windows = OpenWindows(pipeline.client, "topic")
    progress = commit(pipeline, old, new)
    windows.read(progress)
    at_first = pipeline.client.progress("topic")[0].finalized_bucket
    windows.remove([old])

    windows.read(progress)

    assert at_first == 0
    assert pipeline.client.progress("topic")[0].finalized_bucket == 3
    again = OpenWindows(pipeline.client, "topic")
    again.read(pipeline.client.progress("topic"))
    assert list(again.due_windows(ALL)) == [("A", at(5))]


def test_nothing_is_asked_while_nothing_has_been_committed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_windows, "_LOOK_AGAIN_S", 1e9)
    windows = OpenWindows(pipeline.client, "topic")
    progress = commit(pipeline, state(0, "A", 1))
    windows.read(progress)
    pipeline.client.write_affected_windows([state(5, "A", 2)])  # of a batch under way

    windows.read(progress)
    before = list(windows.due_windows(ALL))
    pipeline.client.write_progress("topic", [PartitionProgress(0, 2, None, None)])
    windows.read(pipeline.client.progress("topic"))

    assert before == [("A", at(0))]
    assert list(windows.due_windows(ALL)) == [("A", at(0)), ("A", at(5))]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the rows of window_state that each look reads."""
    monkeypatch.setattr(open_windows, "_LOOK_AGAIN_S", 1e9)
    rows: list[int] = []
    read = CassandraClient.window_states

    def counting(client: CassandraClient, *of: Any) -> list[WindowState]:
        found = list(read(client, *of))
        rows.append(len(found))
        return found

    monkeypatch.setattr(CassandraClient, "window_states", counting)
    return rows


def begun(
    pipeline: Pipeline, minutes: int
) -> tuple[RecentlyAffected, OpenWindows, dict[int, PartitionProgress]]:
    """Let a finalizer take in one window and ask for what ends by a time; return both."""
    affected = RecentlyAffected()
    windows = OpenWindows(pipeline.client, "topic", affected)
    progress = commit(pipeline, state(0, "A", 1))
    windows.read(progress)
    windows.due_windows(Horizon(everything=False, until=at(minutes)))
    return affected, windows, progress


def test_what_the_stream_of_this_process_touches_is_not_read_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = counted(monkeypatch)
    affected = RecentlyAffected()
    windows = OpenWindows(pipeline.client, "topic", affected)
    many = [state(0, f"S{n}", n) for n in range(500)]
    for s in many:
        pipeline.client.mark_finalized([s], Interval.FIVE_MINUTES)
        pipeline.client.mark_finalized([s], Interval.ONE_HOUR)
    windows.read(commit(pipeline, *many))
    windows.due_windows(Horizon(everything=False, until=at(5)))

    for offset in (501, 502):
        new = state(5, "A", offset)
        progress = commit(pipeline, new)
        affected.add([new], progress.values())
        windows.read(progress)
    in_memory = (
        list(windows.due_windows(ALL)),
        [s.affected_offset for s in windows.one_of_each_start()],
    )

    assert rows == [500]
    assert in_memory == ([("A", at(5))], [502])


def test_a_late_trade_into_a_finalized_window_is_read_with_what_was_finalized(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = counted(monkeypatch)
    affected = RecentlyAffected()
    windows = OpenWindows(pipeline.client, "topic", affected)
    early = replace(state(0, "A", 1), first_received_at=at(1))
    progress = commit(pipeline, early)
    pipeline.client.mark_finalized([early], Interval.FIVE_MINUTES)
    pipeline.client.mark_finalized([early], Interval.ONE_HOUR)
    windows.read(progress)
    windows.due_windows(Horizon(everything=False, until=at(5)))

    late = state(0, "A", 7)
    progress = commit(pipeline, late)
    affected.add([late], progress.values())
    windows.read(progress)

    assert rows == [1, 1]
    assert windows.one_of_each_start() == [
        replace(early, affected_offset=7, finalized_offset=1, hour_finalized_offset=1)
    ]


def test_more_than_waits_for_the_finalizer_is_read_from_the_table(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recently_affected, "_MOST", 2)
    rows = counted(monkeypatch)
    affected, windows, _ = begun(pipeline, -5)
    new = [state(0, symbol, 2) for symbol in "BCD"]
    progress = commit(pipeline, *new)
    affected.add(new, progress.values())

    windows.read(progress)

    assert rows == [1, 4]
    assert {symbol for symbol, _ in windows.due_windows(ALL)} == set("ABCD")


AHEAD = 3 * WINDOW_BUCKET_OFFSETS


@pytest.mark.parametrize("most", [200_000, 2])
def test_what_was_affected_since_the_progress_was_read_is_not_forgotten(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A batch is stored, and its progress is not yet; a late trade in it asks for the table."""
    monkeypatch.setattr(recently_affected, "_MOST", most)
    counted(monkeypatch)
    affected, windows, progress = begun(pipeline, 5)
    batch = [state(0, "A", 2), state(60, "B", 3), state(65, "C", AHEAD)]
    pipeline.client.write_affected_windows(batch)
    affected.add(batch, [PartitionProgress(0, AHEAD, None, None)])

    windows.read(progress)
    pipeline.client.write_progress("topic", [PartitionProgress(0, AHEAD, None, None)])
    windows.read(pipeline.client.progress("topic"))

    assert {symbol for symbol, _ in windows.due_windows(ALL)} == set("ABC")


def test_what_was_affected_is_not_forgotten_when_the_table_cannot_be_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(monkeypatch)
    affected, windows, _ = begun(pipeline, 5)
    batch = [state(0, "A", 2), state(60, "B", 3)]
    progress = commit(pipeline, *batch)
    affected.add(batch, progress.values())
    read = CassandraClient.window_states

    def away(*_: Any) -> list[WindowState]:
        message = "Cassandra is away"
        raise OSError(message)

    monkeypatch.setattr(CassandraClient, "window_states", away)
    with pytest.raises(OSError, match="away"):
        windows.read(progress)
    monkeypatch.setattr(CassandraClient, "window_states", read)
    windows.read(progress)

    assert {symbol for symbol, _ in windows.due_windows(ALL)} == set("AB")


def test_what_the_stream_of_another_process_commits_is_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second job may write the same topic's silver, and be further."""
    counted(monkeypatch)
    affected = RecentlyAffected()
    windows = OpenWindows(pipeline.client, "topic", affected)
    ours = state(0, "A", 1)
    progress = commit(pipeline, ours)
    affected.add([ours], progress.values())
    windows.read(progress)
    windows.due_windows(Horizon(everything=False, until=at(-5)))

    windows.read(commit(pipeline, state(60, "B", 9)))

    assert {symbol for symbol, _ in windows.due_windows(ALL)} == set("AB")


def test_chunks_keep_the_order() -> None:
    chunks = list(in_chunks({n: str(n) for n in range(5)}, 2))

    assert chunks == [{0: "0", 1: "1"}, {2: "2", 3: "3"}, {4: "4"}]
