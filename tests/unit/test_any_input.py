"""Whatever the feed sends and whatever a file holds: trades, or rejects with their reasons."""

from __future__ import annotations

import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.errors import TapeError
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.validation import FeedMessage, Ping, TradeFrame, parse_frame
from tapeline.simulator.tape import Tape
from tapeline.trade import encode_trade

NOW_MS = 1_763_649_060_000
FRAME = orjson.dumps(
    {
        "data": [
            {"s": "AAPL", "p": 189.13, "t": 1_763_649_000_123, "v": 100, "c": ["1", "12"]},
            {"s": "BINANCE:BTCUSDT", "p": 84900.01, "t": 1_763_649_000_124, "v": 0.5, "c": None},
        ],
        "type": "trade",
    }
)
TAPE = (
    b"event_time_ms,symbol,price,volume,conditions\n"
    b"1763649000010,AAPL,189.13,100,1|12\n1763649000099,BINANCE:BTCUSDT,84900.01,0.5,\n"
)
INSERTED = (b"\x00", b'"', b"[", b"}", b"1e999", b"-", b",", b"\n")

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5)
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=2), v, max_size=3)
)
items = st.fixed_dictionaries(
    {},
    optional={
        "s": st.just("AAPL") | values,
        "p": st.floats(0.01, 1e6) | values,
        "v": st.floats(0, 1e6) | values,
        "t": st.just(NOW_MS) | values,
        "c": st.just(["1"]) | values,
    },
)


def mutated(seed: int, data: bytes) -> bytes:
    """Change, drop, repeat or insert some bytes."""
    rng = random.Random(seed)  # noqa: S311 - mutations, not secrets
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randint(1, 20)]
            case 2:
                changed[at:at] = changed[at : at + rng.randint(1, 20)]
            case _:
                changed[at:at] = rng.choice(
                    (b"\x00", b'"', b"[", b"}", b"1e999", b"-", b",", b"\n")
                )
    return bytes(changed)


def require_outcome(data: bytes) -> None:
    """Check that a frame becomes trades that can be sent, or says why not."""
    message = parse_frame(data, NOW_MS)
    if not isinstance(message, TradeFrame):
        assert isinstance(message, Ping | FeedMessage)
        return
    try:
        sent = orjson.loads(data)
    except orjson.JSONDecodeError:
        sent = None
    message_of = sent if isinstance(sent, dict) else {}
    if message_of.get("type") == "trade" and isinstance(message_of.get("data"), list):
        assert len(message.trades) + len(message.rejects) == len(message_of["data"])
    else:
        assert [r.index for r in message.rejects] == [None]
    identity = TradeIdentity("finnhub", 2.0, FrameMemory(600.0))
    for trade in identity.assign(message.trades, NOW_MS * 1000, 1.0, data):
        assert encode_trade(trade)


@settings(max_examples=500, deadline=None)
@given(st.lists(items | values, max_size=4))
def test_every_item_of_a_frame_is_a_trade_or_a_reject(data):
    try:
        frame = orjson.dumps({"type": "trade", "data": data})
    except (TypeError, orjson.JSONEncodeError):
        return  # no JSON: an integer or a surrogate that it cannot hold
    require_outcome(frame)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_have_an_outcome(data):
    require_outcome(data)


def test_a_frame_with_any_bytes_changed_has_an_outcome():
    for seed in range(5_000):
        require_outcome(mutated(seed, FRAME))


def test_a_tape_with_any_bytes_changed_is_read_or_refused(tmp_path):
    path = tmp_path / "tape.csv"
    outcomes = set()
    for seed in range(1_000):
        path.write_bytes(mutated(seed, TAPE))
        try:
            tape = Tape(path, 100)
            trades = [trade for frame in tape.frames(0) for trade in frame.trades]
        except TapeError:
            outcomes.add("refused")
        else:
            assert len(trades) == tape.trades
            outcomes.add("read")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_brackets_without_end_have_an_outcome(depth):
    require_outcome(b'{"type":"trade","data":' + b"[" * depth)
