"""Silver rebuilt from bronze and gold from silver, on the real parts, with the hand tape."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cassandra import DriverException
from cassandra.concurrent import execute_concurrent_with_args
from rich.console import Console

from tapeline.finalize.bar_writer import BarWriter, Computed
from tapeline.model.bar import Bar, Interval
from tapeline.model.trade import Trade, encode_trade
from tapeline.program.settings import Settings
from tapeline.rebuild.job import Rebuild, RebuildLayer, RebuildOptions
from tapeline.rebuild.progress import Progress, ProgressFile
from tapeline.rebuild.selection import Selection
from tapeline.rebuild.silver import windows_begun_to_expire
from tapeline.storage.messages import BronzeSpan
from tapeline.storage.windows import PartitionProgress, WindowState
from tests.commands import TIMEOUT_S, wait_for
from tests.hand import TAPE, TRADES, hand_bars, values_of
from tests.pipeline import BOTH, Pipeline
from tests.watcher import Watcher

WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)
HOUR = WINDOW.replace(minute=0)
DAY = timedelta(days=1)
EVERYTHING = Selection()


@pytest.fixture
def finalized(pipeline: Pipeline) -> Pipeline:
    """The hand tape in every layer, every bar final."""
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    assert pipeline.finalize().is_finished
    return pipeline


def rebuild(
    pipeline: Pipeline,
    layer: str,
    selection: Selection = EVERYTHING,
    *,
    silver_ttl_s: int = 30 * 86_400,
    max_windows: int = 500,
    allow_shrink: bool = False,
    file: Path | None = None,
) -> Progress:
    """Rebuild as the command does, in the Spark of the tests."""
    settings = _with(pipeline.settings, silver_ttl_s, max_windows)
    options = RebuildOptions(
        RebuildLayer(layer), selection, allow_shrink, restart=False, any_policy=True
    )
    progress_file = ProgressFile(file or pipeline.folder / "progress.json")
    progress = progress_file.load() or Progress(started_at=pipeline.now)
    Rebuild(
        pipeline.spark,
        pipeline.client,
        settings,
        options,
        lambda _bar, stored: stored is None or stored.bar.is_complete,
        progress_file,
        progress,
        Console(quiet=True),
    ).run()
    return progress


def _with(settings: Settings, silver_ttl_s: int, max_windows: int) -> Settings:
    cassandra = settings.cassandra.model_copy(update={"silver_ttl_s": silver_ttl_s})
    stream = settings.stream.model_copy(update={"finalize_max_windows": max_windows})
    return settings.model_copy(update={"cassandra": cassandra, "stream": stream})


def change_bar(pipeline: Pipeline, table: str, start: datetime, assignment: str) -> None:
    """Change a stored bar of TEST by hand."""
    period = "2024-01-01" if table.endswith("1h") else "2024-03-01"
    pipeline.session.execute(
        f"UPDATE {table} SET {assignment} "
        "WHERE symbol = 'TEST' AND period = %s AND window_start = %s",
        (period, start),
    )


def delete_trade(pipeline: Pipeline, event_time_ms: int) -> None:
    """Delete the only trade of TEST at a time by hand."""
    at = datetime.fromtimestamp(event_time_ms / 1000, timezone.utc)
    pipeline.session.execute(
        "DELETE FROM trades_silver WHERE symbol = 'TEST' AND bucket = %s AND event_time = %s",
        (WINDOW, at),
    )


def in_full(pipeline: Pipeline) -> dict[Interval, dict[tuple[str, datetime], Bar]]:
    return {i: pipeline.bars(i) for i in (Interval.FIVE_MINUTES, Interval.ONE_HOUR)}


def test_bars_that_were_deleted_or_changed_by_hand_are_restored(finalized: Pipeline) -> None:
    before = in_full(finalized)
    change_bar(finalized, "trades_gold_5m", WINDOW, "high = 999.0, volume = 1")
    change_bar(finalized, "trades_gold_1h", HOUR, "close = 1.0")
    finalized.session.execute(
        "DELETE FROM trades_gold_5m WHERE symbol = 'COIN:TESTUSD' AND period = '2024-03-01'"
    )

    progress = rebuild(finalized, "gold")

    after = in_full(finalized)
    for interval in before:
        values = {key: values_of(bar) for key, bar in after[interval].items()}
        assert values == hand_bars(interval)
        assert all(bar.is_final for bar in after[interval].values())
    bar = after[Interval.FIVE_MINUTES]["TEST", WINDOW]
    assert (bar.revision, bar.reason) == (2, "correction")
    hour = after[Interval.ONE_HOUR]["TEST", HOUR]
    assert (hour.revision, hour.reason) == (2, "correction")
    unchanged = WINDOW + timedelta(minutes=5)
    assert (
        after[Interval.FIVE_MINUTES]["TEST", unchanged]
        == (before[Interval.FIVE_MINUTES]["TEST", unchanged])
    )
    assert (progress.windows, progress.written.count, progress.written_hours.count) == (5, 2, 1)


def test_a_whole_gold_that_was_lost_comes_back(finalized: Pipeline) -> None:
    before = in_full(finalized)
    finalized.session.execute("TRUNCATE trades_gold_5m")
    finalized.session.execute("TRUNCATE trades_gold_1h")

    rebuild(finalized, "gold", max_windows=2)

    after = in_full(finalized)
    for interval in before:
        values = {key: values_of(bar) for key, bar in after[interval].items()}
        assert values == hand_bars(interval)
        assert {(bar.is_final, bar.revision) for bar in after[interval].values()} == {(True, 1)}


def test_what_is_right_is_not_written_again(finalized: Pipeline) -> None:
    times = "SELECT WRITETIME(trade_count) AS at FROM trades_gold_5m"
    before = sorted(row.at for row in finalized.session.execute(times))

    progress = rebuild(finalized, "gold")

    assert sorted(row.at for row in finalized.session.execute(times)) == before
    assert (progress.written.count, progress.written_hours.count) == (0, 0)


def test_only_the_windows_that_are_selected_are_rebuilt(finalized: Pipeline) -> None:
    for start in (WINDOW, WINDOW + timedelta(minutes=10)):
        change_bar(finalized, "trades_gold_5m", start, "volume = 1")
    selection = Selection(
        WINDOW + timedelta(minutes=10), WINDOW + timedelta(hours=3), frozenset({"TEST"})
    )

    progress = rebuild(finalized, "gold", selection)

    bars = finalized.bars()
    assert bars["TEST", WINDOW].volume == 1
    assert bars["TEST", WINDOW + timedelta(minutes=10)].volume == 60
    assert progress.windows == 2  # 14:40 and 16:30


def test_a_silver_that_was_lost_comes_back_with_the_time_that_is_left_to_it(
    finalized: Pipeline,
) -> None:
    before = _by_key(finalized)
    bars = in_full(finalized)
    finalized.session.execute("TRUNCATE trades_silver")

    progress = rebuild(finalized, "silver", silver_ttl_s=1000)

    assert _by_key(finalized) == before
    assert len(before) == TRADES
    assert in_full(finalized) == bars
    assert (progress.messages, progress.missing_trades) == (TRADES, 0)
    received = max(row["kafka_timestamp"] for row in finalized.rows("trades_bronze"))
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    ttl = "SELECT TTL(price) AS ttl FROM trades_silver"
    left = [row.ttl for row in finalized.session.execute(ttl)]
    age_s = (now - received).total_seconds()
    assert 990 - age_s - 60 < min(left) <= max(left) < 1000 - age_s + 5


def test_silver_is_rebuilt_for_the_selected_windows_alone(finalized: Pipeline) -> None:
    finalized.session.execute("TRUNCATE trades_silver")

    rebuild(finalized, "silver", Selection(WINDOW, WINDOW + timedelta(minutes=5)))

    assert {(row["symbol"], row["bucket"]) for row in finalized.rows("trades_silver")} == {
        ("TEST", WINDOW.replace(tzinfo=None))
    }
    assert len(finalized.rows("trades_silver")) == 7


def test_a_trade_that_came_back_is_in_its_bar_again(finalized: Pipeline) -> None:
    expected = finalized.bars()["TEST", WINDOW]
    finalized.session.execute("TRUNCATE trades_silver")
    finalized.session.execute("TRUNCATE trades_gold_5m")
    finalized.session.execute("TRUNCATE trades_gold_1h")

    rebuild(finalized, "silver")

    assert values_of(finalized.bars()["TEST", WINDOW]) == values_of(expected)
    assert finalized.bars(Interval.ONE_HOUR)["TEST", HOUR].is_final


def test_messages_that_are_no_trade_are_quarantined_again(pipeline: Pipeline) -> None:
    pipeline.send_messages([("TEST", b"no avro"), ("TEST", None)])
    pipeline.ingest()
    before = pipeline.rows("trades_quarantine")
    pipeline.session.execute("TRUNCATE trades_quarantine")

    rebuild(pipeline, "silver")

    assert pipeline.rows("trades_quarantine") == before
    assert len(before) == 2


def test_a_final_bar_keeps_its_trades_unless_it_may_shrink(finalized: Pipeline) -> None:
    delete_trade(finalized, 1_710_513_000_200)  # 9.90, size 40: the low

    kept = rebuild(finalized, "gold")
    bar = finalized.bars()["TEST", WINDOW]
    shrunk = rebuild(finalized, "gold", allow_shrink=True)
    smaller = finalized.bars()["TEST", WINDOW]

    assert (bar.trade_count, bar.low, bar.revision) == (7, 9.90, 1)
    assert kept.kept.first == ["TEST 2024-03-15T14:30"]
    assert (smaller.trade_count, smaller.low, smaller.volume) == (6, 9.95, Decimal(560))
    assert (smaller.revision, smaller.reason) == (2, "correction")
    hour = finalized.bars(Interval.ONE_HOUR)["TEST", HOUR]
    assert (hour.trade_count, hour.volume, hour.revision) == (13, Decimal(625), 2)
    assert shrunk.kept.count == 0


def test_an_hour_of_which_bars_have_expired_does_not_shrink_to_the_others(
    finalized: Pipeline,
) -> None:
    """Gold has forgotten 14:30, and silver all trades; nothing tells it from a bar never made."""
    before = finalized.bars(Interval.ONE_HOUR)["TEST", HOUR]
    finalized.forget_bar("TEST", WINDOW)
    finalized.session.execute("TRUNCATE window_state")

    progress = rebuild(finalized, "gold", silver_ttl_s=1, allow_shrink=True)

    assert finalized.bars(Interval.ONE_HOUR)["TEST", HOUR] == before
    assert progress.kept.first == ["TEST 2024-03-15T14:00"]


def test_windows_that_are_written_again_and_again_meanwhile_are_named(
    finalized: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = BarWriter.compute

    def overtaken(*arguments: Any, **options: Any) -> Computed:
        """Compute bars, of which another writer writes one before they are stored."""
        computed = compute(*arguments, **options)
        if computed.interval is Interval.FIVE_MINUTES:
            change_bar(finalized, "trades_gold_5m", WINDOW, "trade_count = 7")
        return computed

    monkeypatch.setattr(BarWriter, "compute", overtaken)

    progress = rebuild(finalized, "gold")

    assert progress.left.first == [f"TEST 2024-03-15T{at}" for at in ("14:30", "14:35", "14:40")]


def test_a_trade_deleted_by_hand_is_named_as_still_missing(finalized: Pipeline) -> None:
    delete_trade(finalized, 1_710_513_000_200)

    progress = rebuild(finalized, "silver")

    assert (progress.missing_trades, progress.missing.first) == (1, ["TEST 2024-03-15T14:30"])
    assert finalized.bars()["TEST", WINDOW].trade_count == 7


def test_windows_whose_trades_have_begun_to_expire_are_refused(finalized: Pipeline) -> None:
    change_bar(finalized, "trades_gold_5m", WINDOW, "volume = 1")
    later = WINDOW + timedelta(minutes=10)
    finalized.session.execute(
        "DELETE FROM trades_gold_5m WHERE symbol = 'TEST' AND period = '2024-03-01' "
        "AND window_start = %s",
        (later,),
    )

    progress = rebuild(finalized, "gold", silver_ttl_s=1)

    assert finalized.bars()["TEST", WINDOW].volume == 1
    assert ("TEST", later) not in finalized.bars()
    assert progress.expired.count == 5
    assert progress.written_hours.count == 0


def test_windows_of_which_bronze_has_lost_messages_are_refused(finalized: Pipeline) -> None:
    finalized.session.execute("TRUNCATE trades_silver")
    first = min(row["kafka_offset"] for row in _bronze_of(finalized, "TEST"))
    partition = _bronze_of(finalized, "TEST")[0]["kafka_partition"]
    finalized.session.execute(
        "DELETE FROM trades_bronze WHERE topic_id = %s AND kafka_partition = %s AND bucket = 0 "
        "AND kafka_offset = %s",
        (finalized.topic_id, partition, first),
    )

    progress = rebuild(finalized, "silver")

    assert progress.fragments.count == 4  # every window of TEST
    assert {row["symbol"] for row in finalized.rows("trades_silver")} == {"COIN:TESTUSD"}
    assert {key: values_of(bar) for key, bar in finalized.bars().items()} == hand_bars(
        Interval.FIVE_MINUTES
    )


def test_a_bucket_counts_as_whole_from_the_first_message_that_bronze_still_has(
    pipeline: Pipeline,
) -> None:
    #  offsets  0 ···· 19,999 | 20,000 ···· 30,000 ······ 30,009
    #  bronze   expired       | expired     received 12:00 on
    noon = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    span = BronzeSpan("topic", 0, 30_000, 30_009, noon)
    old, before, after, new = (noon + timedelta(minutes=m) for m in (60, -5, 5, 10))
    states = [(0, old), (1, before), (1, after), (2, old), (2, new)]
    pipeline.client.write_affected_windows(
        WindowState("topic", 0, bucket, start, "X", bucket * 20_000) for bucket, start in states
    )

    refused = windows_begun_to_expire(
        pipeline.client, [span], {("X", start) for _, start in states}
    )

    assert refused == {("X", old), ("X", before)}


def test_bronze_is_read_from_its_first_living_message_past_any_number_of_dead_ones(
    pipeline: Pipeline,
) -> None:
    dead, alive = 15_000, 10
    _fill_bronze(pipeline, dead, alive)
    pipeline.client.write_progress(
        pipeline.topic_id, [PartitionProgress(0, dead + alive - 1, WINDOW, WINDOW)]
    )
    time.sleep(2)  # the dead ones live for a second
    whole = "SELECT count(*) FROM trades_bronze WHERE topic_id = %s AND kafka_partition = 0 "
    with pytest.raises(DriverException):  # too many dead rows to walk over
        pipeline.session.execute(whole + "AND bucket = 0", (pipeline.topic_id,))

    (span,) = pipeline.client.bronze_spans(None)
    rebuild(pipeline, "silver")

    assert (span.first_offset, span.last_offset) == (dead, dead + alive - 1)
    assert {row["trade_id"] for row in pipeline.rows("trades_silver")} == {
        dead + n for n in range(alive)
    }


def test_a_rebuild_goes_on_after_the_hour_that_was_done(
    finalized: Pipeline, tmp_path: Path
) -> None:
    for start in (WINDOW, WINDOW + timedelta(hours=2)):
        change_bar(finalized, "trades_gold_5m", start, "volume = 1")
    file = tmp_path / "stopped.json"
    ProgressFile(file).save(Progress(started_at=finalized.now, hour=(HOUR, "TEST"), windows=3))

    progress = rebuild(finalized, "gold", file=file)

    bars = finalized.bars()
    assert bars["TEST", WINDOW].volume == 1
    assert bars["TEST", WINDOW + timedelta(hours=2)].volume == 100
    assert progress.windows == 5
    assert not file.exists()


def test_a_progress_file_that_is_damaged_starts_over(tmp_path: Path) -> None:
    file = tmp_path / "damaged.json"
    file.write_text('{"version": 1, "started_at"')

    assert ProgressFile(file).load() is None


def test_windows_that_the_stream_has_still_to_finalize_are_left_to_it(finalized: Pipeline) -> None:
    late = Trade("TEST", 9.0, 1.0, 1_710_513_000_300, None, 77, _now_us(), 0, "replay")
    finalized.send_messages([("TEST", encode_trade(late))])
    finalized.ingest()

    progress = rebuild(finalized, "gold")
    bar = finalized.bars()["TEST", WINDOW]
    finalized.finalize()

    assert (bar.trade_count, bar.revision) == (7, 1)
    assert progress.left.first == ["TEST 2024-03-15T14:30"]
    assert finalized.bars()["TEST", WINDOW].trade_count == 8


def test_a_reader_sees_no_worse_bar_while_stream_and_rebuild_work_side_by_side(
    finalized: Pipeline,
) -> None:
    finalized.session.execute("TRUNCATE trades_silver")
    watcher = Watcher(finalized.client, {"TEST", "COIN:TESTUSD"}, HOUR, HOUR + DAY)
    processor = finalized.processor()
    processor.start(BOTH)
    try:
        with watcher.watching(), _finalizing(finalized):
            for n, layer in enumerate(("silver", "gold", "silver")):
                # Revises a window while it is rebuilt.
                ms, trade_id = 1_710_513_001_000 + 300_000 * n, 1000 + n
                late = Trade("TEST", 10.0, 1.0, ms, None, trade_id, _now_us(), 0, "replay")
                finalized.send_messages([("TEST", encode_trade(late))])
                rebuild(finalized, layer, max_windows=1)
            wait_for(lambda: watcher.seen[Interval.ONE_HOUR, "TEST", HOUR].trade_count == 14 + 3)
    finally:
        processor.stop()

    assert watcher.worse == []
    assert watcher.changes > 0
    counts = {key: bar.trade_count for key, bar in finalized.bars().items()}
    expected = {key: bar["trade_count"] for key, bar in hand_bars(Interval.FIVE_MINUTES).items()}
    for minutes in (0, 5, 10):
        expected["TEST", WINDOW + timedelta(minutes=minutes)] += 1
    assert counts == expected


@contextmanager
def _finalizing(pipeline: Pipeline) -> Iterator[None]:
    """Finalize round after round in a thread, as a stream does."""
    stop = threading.Event()

    def run() -> None:
        with pipeline.finalizer() as finalizer:
            while not stop.is_set():
                pipeline.now = datetime.now(timezone.utc)
                finalizer.round()
                stop.wait(0.2)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            stop.set()
        running.result(timeout=TIMEOUT_S)


def _now_us() -> int:
    return int(datetime.now(timezone.utc).timestamp() * 1e6)


def _fill_bronze(pipeline: Pipeline, dead: int, alive: int) -> None:
    """Write messages to bronze of which the first ones die after a second."""
    insert = pipeline.session.prepare(
        "INSERT INTO trades_bronze (topic_id, kafka_partition, bucket, kafka_offset, "
        "kafka_timestamp, message_key, message, symbol, price, volume, event_time) "
        "VALUES (?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?"
    )
    received = datetime.now(timezone.utc)

    def row(offset: int) -> tuple[object, ...]:
        trade = Trade("TEST", 10.0, 1.0, 1_710_513_000_000, None, offset, _now_us(), 0, "replay")
        values = ("TEST", 10.0, 1.0, WINDOW)
        key = (pipeline.topic_id, offset, received, b"TEST", encode_trade(trade))
        return (*key, *values, 1 if offset < dead else 1000)

    rows = (row(offset) for offset in range(dead + alive))
    results = execute_concurrent_with_args(pipeline.session, insert, rows, concurrency=200)
    assert all(result.success for result in results)


def _bronze_of(pipeline: Pipeline, symbol: str) -> list:
    return [row for row in pipeline.rows("trades_bronze") if row["symbol"] == symbol]


def _by_key(pipeline: Pipeline) -> dict:
    return {
        (row["symbol"], row["event_time"], row["trade_id"]): row
        for row in pipeline.rows("trades_silver")
    }
