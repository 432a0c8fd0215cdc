"""Every layer by one query: what the stream remembers of its windows, on the real parts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from tapeline.bar import Interval
from tapeline.consumer.spark_processor import ALL_LAYERS, SparkProcessor
from tapeline.storage.rows import PartitionProgress
from tapeline.trade import Trade, encode_trade
from tests.hand import TAPE, hand_bars, values_of
from tests.pipeline import Pipeline

WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)
WINDOW_MS = 1_710_513_000_000
KEY = ("TEST", WINDOW)


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


def test_previews_and_final_bars_need_no_look_at_silver_where_trades_come_in_order(
    pipeline: Pipeline,
) -> None:
    pipeline.send_tape(TAPE)
    processor = started(pipeline)
    previews = {i: pipeline.bars(i) for i in (Interval.FIVE_MINUTES, Interval.ONE_HOUR)}
    pipeline.session.execute("TRUNCATE trades_silver")

    with pipeline.settler(remembered=processor.previews.exact) as settler:
        result = settler.round()
    processor.stop()

    assert result.is_finished
    for interval, bars in previews.items():
        assert {key: values_of(bar) for key, bar in bars.items()} == hand_bars(interval)
        final = pipeline.bars(interval)
        assert {key: values_of(bar) for key, bar in final.items()} == hand_bars(interval)
        assert all(bar.is_final and bar.same_values(bars[key]) for key, bar in final.items())


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
    assert processor.previews.exact([KEY])[KEY].same_values(pipeline.bars()[KEY])


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
    assert processor.previews.exact([KEY, following]).keys() == {KEY, following}
    hour = pipeline.bars(Interval.ONE_HOUR)["TEST", WINDOW.replace(minute=0)]
    assert hour.trade_count == 4


def test_nothing_is_called_known_while_another_topic_brings_trades_into_the_keyspace(
    pipeline: Pipeline,
) -> None:
    pipeline.client.write_progress("earlier", [PartitionProgress(0, 5, WINDOW, WINDOW)])
    send(pipeline, 300_000)
    processor = started(pipeline)
    following = ("TEST", WINDOW + timedelta(minutes=5))
    before = processor.previews.exact([following])
    pipeline.client.write_progress("earlier", [PartitionProgress(0, 6, WINDOW, WINDOW)])
    after = processor.previews.exact([following])
    processor.stop()

    assert before.keys() == {following}
    assert after == {}
