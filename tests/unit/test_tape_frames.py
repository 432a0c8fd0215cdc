"""Frames are cut by bytes as well, and trades keep their identities when a millisecond is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from tapeline.model.errors import TapeError
from tapeline.model.trade import Trade
from tapeline.producer.finnhub_client import FinnhubClient
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.validation import TradeFrame, parse_frame
from tapeline.program.settings import FinnhubSettings
from tapeline.simulator.feed import FeedFrame
from tapeline.simulator.server import ServerOptions, SimulatedFinnhub
from tapeline.simulator.tape import Tape
from tapeline.simulator.tape_file.form import TapeForm

T0 = 1_710_513_000_000
NOW_MS = 1_763_649_000_000
TOKEN = "simulated"


def written(folder: Path, rows: Iterable[str]) -> Path:
    path = folder / "tape.csv"
    path.write_text("\n".join(["event_time_ms,symbol,price,volume,conditions", *rows]) + "\n")
    return path


def tape_of(folder: Path, rows: Iterable[str], max_frame_bytes: int = 15 << 20) -> Tape:
    return Tape(written(folder, rows), 100, TapeForm(), max_frame_bytes)


def on_the_wire(frame: FeedFrame) -> bytes:
    return orjson.dumps({"data": frame.trades, "type": "trade"})


def identified(frames: Sequence[FeedFrame]) -> list[Trade]:
    """Return the trades as a producer that reads a tape at full speed makes them of frames."""
    identity = TradeIdentity("replay", 2.0, FrameMemory(600.0), speed=None)
    trades: list[Trade] = []
    for number, frame in enumerate(frames):
        data = on_the_wire(frame)
        parsed = parse_frame(data, NOW_MS)
        assert isinstance(parsed, TradeFrame)
        trades += identity.assign(parsed.trades, number, 100.0 * number, data)
    return trades


def one_frame(frames: Sequence[FeedFrame]) -> list[FeedFrame]:
    return [FeedFrame(T0, [trade for frame in frames for trade in frame.trades])]


def test_260_000_trades_of_a_millisecond_are_frames_that_the_producer_reads(tmp_path):
    # Two different trades in turn, so that two frames of one length would be equal.
    tape = tape_of(tmp_path, (f"{T0},A,{1 + n % 2},1," for n in range(260_000)))
    frames = list(tape.frames(0))
    assert sum(len(frame.trades) for frame in frames) == 260_000
    assert all(len(on_the_wire(frame)) <= 15 << 20 for frame in frames)
    assert len({on_the_wire(frame) for frame in frames}) == len(frames) > 1
    trades = identified(frames)
    assert len({trade.trade_id for trade in trades}) == 260_000
    assert [trade.sequence for trade in trades] == list(range(260_000))


def test_a_cut_millisecond_has_the_ids_and_ranks_of_a_whole_one(tmp_path):
    rows = [f"{T0},A,{1 + n % 3},1," for n in range(100)]
    frames = list(tape_of(tmp_path, rows, 4_000).frames(0))
    assert len(frames) > 3
    assert identified(frames) == [
        trade._replace(received_at_us=ours.received_at_us)
        for trade, ours in zip(identified(one_frame(frames)), identified(frames), strict=True)
    ]


def test_equal_trades_of_a_cut_millisecond_all_count(tmp_path):
    frames = list(tape_of(tmp_path, [f"{T0},A,1,1,"] * 100, 4_000).frames(0))
    assert len({trade.trade_id for trade in identified(frames)}) == 100


def test_two_symbols_of_a_cut_millisecond_are_ranked_apart(tmp_path):
    rows = [f"{T0},{'AB'[n % 2]},1,{1 + n % 4}," for n in range(100)]
    trades = identified(list(tape_of(tmp_path, rows, 4_000).frames(0)))
    assert [t.sequence for t in trades if t.symbol == "B"] == list(range(50))
    assert len({trade.trade_id for trade in trades}) == 100


def test_a_frame_is_cut_between_milliseconds_where_it_can_be(tmp_path):
    """Of trades as these, 13 fit into 2,000 bytes by the largest that they may be."""
    rows = [f"{T0 + n // 5},A,{1 + n},1," for n in range(30)]
    frames = list(tape_of(tmp_path, rows, 2_000).frames(0))
    assert all(len(on_the_wire(frame)) <= 2_000 for frame in frames)
    assert [t["p"] for f in frames for t in f.trades] == [1.0 + n for n in range(30)]
    for before, after in pairwise(frames):
        assert before.trades[-1]["t"] < after.trades[0]["t"]
    assert len(frames) == 3


def test_the_frame_after_a_cut_millisecond_goes_on_with_the_next_ones(tmp_path):
    rows = [f"{T0},A,{1 + n},1," for n in range(25)] + [f"{T0 + 1},A,{26 + n},1," for n in range(5)]
    frames = list(tape_of(tmp_path, rows, 2_000).frames(0))
    assert [t["p"] for f in frames for t in f.trades] == [1.0 + n for n in range(30)]
    assert len({trade.trade_id for trade in identified(frames)}) == 30


@pytest.mark.parametrize(
    "text", ["é" * 100, '"' * 20 + "\\" * 20, "\N{SNOWMAN}" * 60], ids=["two", "escaped", "three"]
)
def test_the_bytes_of_any_symbol_and_condition_are_counted(tmp_path, text):
    quoted = text.replace('"', '""')
    conditions = "|".join(["é" * 9] * 20)
    rows = [f'{T0 + n},"{quoted}",1234567.25,1.2345e-7,"{conditions}"' for n in range(50)]
    frames = list(tape_of(tmp_path, rows, 20_000).frames(0))
    assert all(len(on_the_wire(frame)) <= 20_000 for frame in frames)
    assert sum(len(frame.trades) for frame in frames) == 50


def test_an_ordinary_tape_is_cut_as_before(tmp_path):
    rows = [f"{T0 + n},A,1,1," for n in range(250)]
    sizes = [len(frame.trades) for frame in tape_of(tmp_path, rows).frames(0)]
    assert sizes == [100, 100, 50]


@pytest.mark.parametrize(
    "rows",
    [
        # Older than the trade before it.
        [f"{T0 + 9},A,1,1,", *[f"{T0},A,1,1,"] * 100],
        # In two parts.
        [*[f"{T0},A,1,1,"] * 50, f"{T0 + 9},A,1,1,", *[f"{T0},A,1,1,"] * 50],
    ],
)
def test_a_millisecond_that_must_be_cut_and_is_late_is_refused(tmp_path, rows):
    """Its twins would be taken for one trade: those that are late are told apart in one frame."""
    with pytest.raises(TapeError, match=r"100 trades of 2024-03-15T14:30:00Z .*sort the tape"):
        tape_of(tmp_path, rows, 2_000)


def test_a_millisecond_that_must_be_cut_needs_full_speed_and_no_faults(tmp_path):
    tape_of(tmp_path, [f"{T0 + n},A,1,1," for n in range(100)], 4_000).require_whole_milliseconds()
    tape = tape_of(tmp_path, [f"{T0},A,1,1,"] * 100, 4_000)
    with pytest.raises(TapeError, match=r"100 trades in the one millisecond .* --speed max"):
        tape.require_whole_milliseconds()


def test_a_limit_below_a_single_trade_is_refused(tmp_path):
    with pytest.raises(TapeError, match="no trade fits into a frame of 100 bytes"):
        tape_of(tmp_path, [f"{T0},A,1,1,"], 100)


def test_the_client_reads_every_frame_of_a_crowded_millisecond_on_one_connection(tmp_path):
    """The real client and server; the client closes on a frame above its limit."""
    tape = tape_of(tmp_path, (f"{T0},A,{1 + n % 10},1," for n in range(3_000)), 65_536)

    async def read() -> tuple[int, int]:
        simulator = SimulatedFinnhub(ServerOptions("127.0.0.1", 0, TOKEN, speed=None), tape)
        async with simulator.serve() as server:
            port = next(iter(server.sockets)).getsockname()[1]
            settings = FinnhubSettings(url=f"ws://127.0.0.1:{port}", max_frame_bytes=65_536)
            client = FinnhubClient(settings, SecretStr(TOKEN), tape.symbols)
            count = 0
            async for frame in client.frames():
                assert not frame.is_too_large
                parsed = parse_frame(frame.data, NOW_MS)
                assert isinstance(parsed, TradeFrame)
                count += len(parsed.trades)
            return count, client.connection

    assert asyncio.run(read()) == (3_000, 0)
