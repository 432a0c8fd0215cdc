"""The demo's past goes through the real parts and ends in complete, final bars."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

from tapeline.demo.history import is_empty, play_history
from tapeline.model.times import EPOCH, floor_to, to_millis
from tapeline.simulator.past import past_frames
from tests.pipeline import Pipeline
from tests.statuses import send_status

FIVE = timedelta(minutes=5)


def report_live(pipeline: Pipeline, symbols: tuple[str, ...], started: datetime) -> None:
    """Report a live producer that heard the market from a time on, and was stopped."""
    us = to_millis(started) * 1000
    send_status(
        pipeline,
        "live",
        newest_receipt_us=us,
        symbols=symbols,
        is_live=True,
        started_us=us,
        last_message_us=us,
        frames=1,
        has_stopped=True,
    )


def test_the_past_is_final_and_complete_and_the_moment_before_live_is_not(
    pipeline: Pipeline,
) -> None:
    servers = pipeline.endpoints.bootstrap_servers
    now = datetime.now(timezone.utc)
    start = floor_to(timedelta(hours=1), now - timedelta(hours=3))
    frames = list(past_frames(1, start, now))
    symbols = {str(t["s"]) for frame in frames for t in frame.trades}
    in_window = Counter(
        (t["s"], floor_to(FIVE, EPOCH + timedelta(milliseconds=t["t"])))
        for frame in frames
        for t in frame.trades
    )

    assert is_empty(pipeline.settings, servers)
    sent = play_history(pipeline.settings, servers, pipeline.topic_id, now)
    assert sent == sum(in_window.values())
    assert not is_empty(pipeline.settings, servers)
    pipeline.now = now + timedelta(hours=1)  # it was quiet since, so the last window is due too
    report_live(pipeline, tuple(sorted(symbols)), now + timedelta(seconds=3))

    pipeline.ingest()
    pipeline.finalize(max_windows=10_000)

    bars = pipeline.bars()
    assert {key: bar.trade_count for key, bar in bars.items()} == in_window
    assert all(bar.is_final and bar.revision == 1 for bar in bars.values())
    last = floor_to(FIVE, now)
    assert {start for (_, start), bar in bars.items() if not bar.is_complete} <= {last}
    assert all(bar.is_complete is False for (_, start), bar in bars.items() if start == last)
