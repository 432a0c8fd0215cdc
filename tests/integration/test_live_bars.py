"""What a live chart reads of a real Cassandra, each second."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from tapeline.cli.render.live_bars import LiveBars, LiveFeed
from tapeline.model.bar import Interval
from tapeline.model.gap import Gap, GapKind
from tapeline.model.read_interval import ReadInterval
from tapeline.storage.windows import PartitionProgress
from tests.pipeline import Pipeline
from tests.sample import a_bar

NOW = datetime(2026, 11, 20, 15, 2, tzinfo=timezone.utc)
FIVE = timedelta(minutes=5)
FINAL = a_bar(window_start=NOW - timedelta(minutes=22), is_final=True, revision=1)
OPEN = [a_bar(window_start=FINAL.window_start + FIVE * n) for n in (1, 2, 3, 4)]


def live(pipeline: Pipeline, interval: str = "5m") -> LiveBars:
    return LiveBars(pipeline.client, "AAPL", ReadInterval.parse(interval), None, None)


def write(pipeline: Pipeline, *bars, at: int = 1) -> None:
    pipeline.client.write_bars(Interval.FIVE_MINUTES, [(bar, at) for bar in bars])


def test_a_chart_follows_new_changed_final_and_revised_bars(pipeline: Pipeline) -> None:
    bars = live(pipeline)
    write(pipeline, FINAL, *OPEN[:2])
    bars.refresh(NOW, 10)
    assert bars.bars == [FINAL, *OPEN[:2]]

    finalized, moved = replace(OPEN[0], is_final=True, revision=1), replace(OPEN[1], close=2.5)
    write(pipeline, finalized, moved, OPEN[2], at=2)
    bars.refresh(NOW + timedelta(seconds=1), 10)
    assert bars.bars == [FINAL, finalized, moved, OPEN[2]]

    revised = replace(FINAL, revision=2, close=1.5)
    write(pipeline, revised, at=3)
    bars.refresh(NOW + timedelta(seconds=2), 10)
    assert bars.bars[0] == FINAL
    bars.refresh(NOW + timedelta(seconds=61), 10)
    assert bars.bars == [revised, finalized, moved, OPEN[2]]

    bars.refresh(NOW + timedelta(seconds=62), 2)
    assert bars.bars == [moved, OPEN[2]]


def test_longer_bars_grow_too_and_a_wide_screen_reaches_over_a_weekend(pipeline: Pipeline) -> None:
    friday = replace(FINAL, window_start=NOW - timedelta(days=3, hours=20, minutes=17))
    friday = replace(friday, window_end=friday.window_start + FIVE)
    write(pipeline, friday, FINAL, OPEN[0])
    bars = live(pipeline, "15m")
    bars.refresh(NOW, 10)
    write(pipeline, OPEN[1])
    bars.refresh(NOW + timedelta(seconds=1), 10)

    assert [b.trade_count for b in bars.bars] == [4, 4, 8]
    assert [f"{b.window_start:%H:%M}" for b in bars.bars] == ["18:45", "14:30", "14:45"]


def test_the_feed_is_told_by_its_newest_trade_and_by_gaps_that_last(pipeline: Pipeline) -> None:
    feed = LiveFeed(pipeline.client, pipeline.name)
    feed.refresh(NOW)
    before = feed.state_of("AAPL", NOW).plain

    received = NOW - timedelta(seconds=3)
    progress = PartitionProgress(0, 7, received, received)
    pipeline.client.write_progress(pipeline.topic_id, [progress])
    feed.refresh(NOW + timedelta(seconds=1))
    fresh = feed.state_of("AAPL", NOW).plain

    since = int((NOW - timedelta(seconds=30)).timestamp() * 1e6)
    kind, topic = GapKind.DISCONNECTED, pipeline.name
    gap = Gap("p", topic, pipeline.topic_id, kind, ("AAPL",), since, None, since)
    pipeline.client.write_gaps([gap])
    feed.refresh(NOW + timedelta(seconds=10))

    assert before == "no trade yet"
    assert fresh == "newest trade 3.0 s ago"
    assert feed.state_of("AAPL", NOW).plain == "no feed: disconnected"
    assert feed.state_of("MSFT", NOW).plain == "newest trade 3.0 s ago"
