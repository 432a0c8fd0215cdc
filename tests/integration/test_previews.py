"""Every layer by one query: what the stream remembers of its windows, on the real parts."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone

from tapeline.consumer.spark_processor import ALL_LAYERS, Layer, SparkProcessor
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.trade import Trade, encode_trade
from tapeline.storage.windows import PartitionProgress, WindowState
from tests.hand import TAPE, hand_bars, values_of
from tests.pipeline import Pipeline

WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)
WINDOW_MS = 1_710_513_000_000
KEY = ("TEST", WINDOW)
LAST = ("TEST", WINDOW + timedelta(hours=2))


def send(pipeline: Pipeline, *milliseconds: int) -> None:
    """Send a trade at each millisecond of the window; its id is the millisecond."""
    now_us = int(datetime.now(timezone.utc).timestamp() * 1e6)
    pipeline.send_messages(
        [
            (
                "TEST",
                encode_trade(
                    Trade("TEST", 10.0 + ms, 1.0, WINDOW_MS + ms, None, ms, now_us, 0, "replay")
                ),
            )
            for ms in milliseconds
        ]
    )


def started(pipeline: Pipeline) -> SparkProcessor:
    processor = pipeline.processor()
    processor.start(ALL_LAYERS).processAllAvailable()
    return processor


def add(pipeline: Pipeline, processor: SparkProcessor, *milliseconds: int) -> None:
    send(pipeline, *milliseconds)
    assert processor.query is not None
    processor.query.processAllAvailable()


def seen(pipeline: Pipeline, processor: SparkProcessor) -> dict[WindowKey, Bar]:
    """Ask for the bars of every window that is known whole."""
    states: defaultdict[WindowKey, list[WindowState]] = defaultdict(list)
    for partition in pipeline.client.progress(pipeline.topic_id):
        for state in pipeline.client.window_states(pipeline.topic_id, partition, [0]):
            states[state.symbol, state.window_start].append(state)
    return processor.previews.seen(states)


def test_previews_and_final_bars_need_no_look_at_silver_where_trades_come_in_order(
    pipeline: Pipeline,
) -> None:
    pipeline.send_tape(TAPE)
    processor = started(pipeline)
    previews = {i: pipeline.bars(i) for i in (Interval.FIVE_MINUTES, Interval.ONE_HOUR)}
    pipeline.session.execute("TRUNCATE trades_silver")

    with pipeline.finalizer(remembered=processor.previews.seen) as finalizer:
        result = finalizer.round()
    processor.stop()

    assert result.is_finished
    # The window of 14:30 was over when its batch was stored, that of the last trade was not.
    assert KEY not in previews[Interval.FIVE_MINUTES]
    assert LAST in previews[Interval.FIVE_MINUTES]
    for interval, bars in previews.items():
        hand = hand_bars(interval)
        assert {key: values_of(bar) for key, bar in bars.items()}.items() <= hand.items()
        final = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in final.items()} == hand
        assert all(bar.is_final for bar in final.values())
        assert all(final[key].same_values(bar) for key, bar in bars.items())


def test_a_window_that_is_over_keeps_its_preview_where_its_hour_needs_it(
    pipeline: Pipeline,
) -> None:
    """The hour began before the restart: its preview is made of what is stored."""
    send(pipeline, 1)
    started(pipeline).stop()
    send(pipeline, 300_000, 1_500_000)
    started(pipeline).stop()

    over, hour = ("TEST", WINDOW + timedelta(minutes=5)), ("TEST", WINDOW.replace(minute=0))
    assert pipeline.bars()[over].trade_count == 1
    assert pipeline.bars(Interval.ONE_HOUR)[hour].trade_count == 3


def test_a_trade_that_comes_again_in_a_later_batch_counts_once_in_the_preview(
    pipeline: Pipeline,
) -> None:
    send(pipeline, 1, 2)
    processor = started(pipeline)
    add(pipeline, processor, 3, 4)
    in_order = pipeline.bars()[KEY]
    add(pipeline, processor, 4, 3, 5, 5)
    again = pipeline.bars()[KEY]
    add(pipeline, processor, 6)
    processor.stop()

    assert (in_order.trade_count, in_order.close) == (4, 14.0)
    assert (again.trade_count, again.open, again.close) == (5, 11.0, 15.0)
    assert pipeline.bars()[KEY].trade_count == 6
    hour = pipeline.bars(Interval.ONE_HOUR)["TEST", WINDOW.replace(minute=0)]
    assert (hour.trade_count, hour.high) == (6, 16.0)
    assert seen(pipeline, processor) == {}


def test_a_window_that_began_before_a_restart_is_made_whole_from_silver(
    pipeline: Pipeline,
) -> None:
    send(pipeline, 1, 2)
    started(pipeline).stop()
    send(pipeline, 3, 300_001)
    processor = started(pipeline)
    processor.stop()

    assert pipeline.bars()[KEY].trade_count == 3
    following = ("TEST", WINDOW + timedelta(minutes=5))
    assert pipeline.bars()[following].trade_count == 1
    assert seen(pipeline, processor).keys() == {following}
    hour = pipeline.bars(Interval.ONE_HOUR)["TEST", WINDOW.replace(minute=0)]
    assert hour.trade_count == 4


def test_nothing_is_called_known_while_another_topic_brings_trades_into_the_keyspace(
    pipeline: Pipeline,
) -> None:
    pipeline.client.write_progress("earlier", [PartitionProgress(0, 5, WINDOW, WINDOW)])
    send(pipeline, 300_000)
    processor = started(pipeline)
    following = ("TEST", WINDOW + timedelta(minutes=5))
    before = seen(pipeline, processor)
    pipeline.client.write_progress("earlier", [PartitionProgress(0, 6, WINDOW, WINDOW)])
    after = seen(pipeline, processor)
    processor.stop()

    assert before.keys() == {following}
    assert after == {}


def test_a_window_for_which_somebody_else_has_read_further_is_made_from_silver(
    pipeline: Pipeline,
) -> None:
    """Two streams of one topic: the first to read a trade makes its window due for both."""
    send(pipeline, 1)
    processor = started(pipeline)
    alone = seen(pipeline, processor)
    processor.stop()
    send(pipeline, 2)
    pipeline.ingest(frozenset({Layer.SILVER}), checkpoint="another")
    together = seen(pipeline, processor)
    pipeline.now += timedelta(minutes=11)
    with pipeline.finalizer(remembered=processor.previews.seen) as finalizer:
        finalizer.round()

    assert (alone[KEY].trade_count, together) == (1, {})
    bar = pipeline.bars()[KEY]
    assert (bar.is_final, bar.trade_count) == (True, 2)


def test_a_revision_is_made_from_silver(pipeline: Pipeline) -> None:
    """Silver may have been repaired since its trades were seen."""
    send(pipeline, 1, 2)
    processor = started(pipeline)
    pipeline.now += timedelta(minutes=11)
    with pipeline.finalizer(remembered=processor.previews.seen) as finalizer:
        finalizer.round()
        pipeline.session.execute(
            "INSERT INTO trades_silver (symbol, bucket, event_time, trade_id, price, volume, "
            "sequence, received_at, source) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            ("TEST", WINDOW, WINDOW, 77, 5.0, 1.0, 0, WINDOW, "replay"),
        )
        add(pipeline, processor, 3)
        finalizer.round()
    processor.stop()

    bar = pipeline.bars()[KEY]
    assert (bar.revision, bar.trade_count, bar.low) == (2, 4, 5.0)
