"""Whatever the feed sends and whatever the topic or a file holds: trades, or a reason why not."""

from __future__ import annotations

import csv
import gzip
import io
import math
from pathlib import Path
from typing import Any

import orjson
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.live.decode import decode_trade
from tapeline.model.errors import TapeError
from tapeline.model.reasons import Reason
from tapeline.model.trade import Trade, encode_trade
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.redelivery import FrameMemory
from tapeline.producer.validation import FeedMessage, Ping, TradeFrame, parse_frame
from tapeline.simulator.tape import Tape
from tapeline.simulator.tape_file.codes import ConditionCodes
from tapeline.simulator.tape_file.form import TapeForm
from tests.fuzz import hold, mutated

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
    b'1763649000099,"IC MARKETS:1",1.5,0,"1"\n'
)
MESSAGES = [
    encode_trade(
        Trade("AAPL", 189.13, 100.0, NOW_MS - 9, conditions, -9, NOW_MS * 1000, 2, "replay")
    )
    for conditions in (("1", "12"), (), None)
]
HEADER = MESSAGES[0][:10]

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


def json_of(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b"{"  # an integer or a surrogate that JSON cannot hold


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
        assert decode_trade(encode_trade(trade), NOW_MS) == trade


def test_every_item_of_any_frame_is_a_trade_or_a_reject():
    lists = st.lists(items | values, max_size=4)
    frames = lists.map(lambda data: json_of({"type": "trade", "data": data}))
    hold(require_outcome, st.binary(max_size=200) | frames, lambda seed: mutated(seed, FRAME), 500)


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_brackets_without_end_have_an_outcome(depth):
    require_outcome(b'{"type":"trade","data":' + b"[" * depth)


def test_any_message_is_a_valid_trade_or_none():
    def check(data: bytes) -> None:
        trade = decode_trade(data, NOW_MS)
        if trade is not None:
            assert data.startswith(HEADER)
            assert 0 < len(trade.symbol) <= 128
            assert 0 < trade.price < 1e11
            assert 0 <= trade.volume < 1e13
            assert trade.event_time_ms >= 946_684_800_000
            assert decode_trade(encode_trade(trade), NOW_MS) == trade

    def message(seed: int) -> bytes:
        header = HEADER if seed % 4 else b""
        return header + mutated(seed, MESSAGES[seed % 3][len(header) :])

    hold(check, st.binary(max_size=100).map(HEADER.__add__), message)


def parquet(**options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pacsv.read_csv(io.BytesIO(TAPE)), file, **options)
    return file.getvalue()


cells = st.text(max_size=5) | st.sampled_from(
    ["1763649000010", "AAPL", "1.5", "7", "", "nan", "1e999", "-1", "1|12", '"1"', '"a,b"', '"']
)
rows = st.lists(cells, min_size=5, max_size=5).map(",".join)


def require_sentence(text: str, path: Path) -> None:
    assert str(path) in text
    assert text.isprintable()
    assert text.endswith(".")
    assert len(text) < 1000


tapes = st.tuples(
    st.just("tape.csv"),
    st.lists(rows, min_size=1, max_size=4).map(lambda r: TAPE + "\n".join(r).encode()),
)
TAPES = [
    ("tape.csv", TAPE),
    ("tape.csv.gz", gzip.compress(TAPE)),
    ("tape.parquet", parquet()),
    ("tape.parquet", parquet(compression="none", use_dictionary=False)),
]


def tape_of(seed: int) -> tuple[str, bytes]:
    name, content = TAPES[seed % len(TAPES)]
    return name, mutated(seed, content)


def test_any_tape_is_read_whole_or_refused(tmp_path):
    outcomes = set()

    def check(tape_file: tuple[str, bytes]) -> None:
        name, content = tape_file
        path = tmp_path / name
        path.write_bytes(content)
        try:
            tape = Tape(path, 100)
            trades = [trade for frame in tape.frames(0) for trade in frame.trades]
        except TapeError as error:
            outcomes.add(f"{name} refused")
            require_sentence(str(error), path)
            return
        outcomes.add(f"{name} read")
        text = (content if name == "tape.csv" else TAPE).decode(errors="replace")
        # Empty lines before the header are skipped; DictReader takes the first for one.
        text = text.removeprefix("\ufeff").lstrip("\r\n")
        lines = csv.DictReader(io.StringIO(text, newline=""))
        symbols = [line["symbol"].strip() for line in lines]
        assert len(trades) == tape.trades == len(symbols)
        if name != "tape.parquet":  # its bytes have no checksum
            assert [trade["s"] for trade in trades] == symbols
        for trade in trades:
            assert parse_frame(json_of({"type": "trade", "data": [trade]}), NOW_MS)
            assert None not in (trade["s"], trade["p"], trade["v"], trade["t"])
            assert math.isfinite(trade["p"] + trade["v"])

    hold(check, tapes, tape_of, 100)
    names = ("tape.csv", "tape.csv.gz", "tape.parquet")
    assert outcomes == {f"{name} {outcome}" for name in names for outcome in ("read", "refused")}


ROWS_OF = {
    "": ["event_time_ms", "symbol", "price", "volume", "conditions"],
    "polygon": ["ticker", "conditions", "correction", "exchange", "price", "sip_timestamp", "size"],
    "databento": [
        *("ts_event", "rtype", "publisher_id", "instrument_id", "action", "side", "price", "size"),
        *("flags", "sequence", "symbol"),
    ],
    "alpaca": ["symbol", "timestamp", "exchange", "price", "size", "id", "conditions", "tape"],
}
values_in_cells = st.text(max_size=6) | st.sampled_from(
    [
        *("1710513000", "1710513000.5", "1710513000100", "1710513000100999", "946684799", "0x10"),
        *("2024-03-15T14:30:00Z", "2024-03-15 14:30:00.5-04:00", "2024-02-30T00:00:00Z", "17"),
        *("AAPL", " AAPL ", "A,B", "T", "1.5", "4500250000000", "9223372036854775807", "1_000"),
        *("", " ", "nan", "-0.0", "1e999", "@F I", "B", "12,37", "1 | 12", "['@']", "12.0"),
        *("\x00", '"', "\u0661\u0662", "9" * 30, "C", "\r", "\n", ";", "\t"),
    ]
)


@st.composite
def dumps(draw: st.DrawFn) -> tuple[list[str], list[list[str]], str, ConditionCodes | None]:
    """Draw a file whose columns are known, and any values in them."""
    names = ROWS_OF[draw(st.sampled_from(sorted(ROWS_OF)))]
    good = {"price": "1.5", "volume": "7", "size": "7", "symbol": "A", "ticker": "A", "action": "T"}
    times = dict.fromkeys(
        ("event_time_ms", "sip_timestamp", "ts_event", "timestamp"), "1710513000100"
    )
    row = [{**times, **good}.get(name, "") for name in names]
    content = [list(row) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content) - 1)), draw(st.integers(0, len(names) - 1))
        content[at[0]][at[1]] = draw(values_in_cells)
    codes = draw(st.none() | st.sampled_from(ConditionCodes))
    return names, content, draw(st.sampled_from([",", ";", "\t"])), codes


def test_any_value_in_any_dump_is_read_or_refused_and_what_is_read_has_a_time(tmp_path):
    outcomes = set()
    path = tmp_path / "dump"

    def check(dump: tuple[list[str], list[list[str]], str, ConditionCodes | None]) -> None:
        names, rows, delimiter, codes = dump
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([names, *rows])
        try:
            tape = Tape(path, 100, TapeForm(codes=codes))
        except TapeError as error:
            outcomes.add("refused")
            require_sentence(str(error), path)
            return
        outcomes.add("read")
        trades = [trade for frame in tape.frames(0) for trade in frame.trades]
        assert len(trades) == tape.trades == len(rows)
        assert all(line.isprintable() for line in tape.notes.in_full() + tape.notes.in_short())
        parsed = parse_frame(json_of({"type": "trade", "data": trades}), NOW_MS)
        assert isinstance(parsed, TradeFrame)
        assert {r.reason for r in parsed.rejects} <= {Reason.BAD_PRICE, Reason.BAD_VOLUME}

    settings(max_examples=400, suppress_health_check=list(HealthCheck))(given(dumps())(check))()
    assert outcomes == {"read", "refused"}
