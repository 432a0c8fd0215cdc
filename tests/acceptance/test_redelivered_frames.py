"""Frames of real tapes that come again, at once, give no trade twice; what is not told apart."""

from __future__ import annotations

import os
import random
from pathlib import Path

import orjson
import pytest

from tapeline.producer.identity import TradeIdentity
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.validation import TradeFrame, parse_frame
from tapeline.simulator.tape import Tape


@pytest.mark.parametrize(("name", "trades"), [("gold_20131007", 40_182), ("spy_20131007", 250_601)])
def test_only_frames_of_one_trade_or_equal_ones_count_twice(name: str, trades: int) -> None:
    """A tenth of the frames comes three times at once."""
    tape = Tape(Path(os.environ["TAPELINE_TAPES"]) / f"{name}.trades.csv.gz", 100)
    chosen = random.Random(7)  # noqa: S311 - a choice, not a secret
    identity = TradeIdentity("replay", 2.0, FrameMemory(600.0))
    ids: set[tuple[str, int, int]] = set()
    undecidable = sent = 0
    for frame in tape.frames(0):
        data = orjson.dumps({"data": frame.trades, "type": "trade"})
        message = parse_frame(data, frame.due_ms)
        assert isinstance(message, TradeFrame)
        times = 3 if chosen.random() < 0.1 else 1
        if all(trade == frame.trades[0] for trade in frame.trades):
            undecidable += (times - 1) * len(frame.trades)
        for _ in range(times):
            found = identity.assign(message.trades, 1, frame.due_ms / 1000, data)
            ids.update((t.symbol, t.event_time_ms, t.trade_id) for t in found)
            sent += len(found)

    assert sent > trades * 1.1
    # A trade alone that is older than its symbol's newest one is known all the same.
    assert trades <= len(ids) <= trades + undecidable
    assert sent - len(ids) > (sent - trades) / 2
