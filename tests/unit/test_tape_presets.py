"""Dumps of trades in vendors' own shapes, made by hand, with bars worked out by hand.

2024-03-15T14:30:00Z, half past ten in New York, is 1,710,513,000 s.
"""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.live.fold import OpenBar
from tapeline.model.conditions import SIP
from tapeline.model.errors import TapeError
from tapeline.model.rules import Rules
from tapeline.producer.identity import TradeIdentity
from tapeline.producer.validation import TradeFrame, parse_frame
from tapeline.simulator.tape import Tape
from tapeline.simulator.tape_file.codes import ConditionCodes
from tapeline.simulator.tape_file.form import TapeForm, parse_columns
from tapeline.simulator.tape_file.presets import TapeFormat

T0 = 1_710_513_000_000
NOW_MS = 1_763_649_000_000
FIVE_MINUTES_MS = 300_000


def played(tape: Tape) -> list[tuple[str, int, float, float, list[str] | None]]:
    trades = [trade for frame in tape.frames(0) for trade in frame.trades]
    return [(t["s"], t["t"] - T0, t["p"], t["v"], t["c"]) for t in trades]


def bars(tape: Tape, policy: Rules = SIP) -> dict[str, tuple[object, ...]]:
    """Return open, high, low, close, volume and count of each symbol's one window."""
    identity = TradeIdentity("replay", 2.0, speed=None)
    found: dict[str, OpenBar] = {}
    for frame in tape.frames(0):
        data = orjson.dumps({"data": frame.trades, "type": "trade"})
        parsed = parse_frame(data, NOW_MS)
        assert isinstance(parsed, TradeFrame)
        assert parsed.rejects == ()
        for trade in identity.assign(parsed.trades, 1, 1.0, data):
            start_ms = trade.event_time_ms // FIVE_MINUTES_MS * FIVE_MINUTES_MS
            new = OpenBar(trade.symbol, start_ms, FIVE_MINUTES_MS, policy)
            found.setdefault(trade.symbol, new).fold(trade)
    return {
        symbol: (b.open, b.high, b.low, b.close, b.volume, b.trade_count)
        for symbol, b in ((symbol, one.bar()) for symbol, one in found.items())
    }


def tape_of(folder: Path, content: str, form: TapeForm | None = None) -> Tape:
    path = folder / "dump.csv"
    path.write_text(content, encoding="utf-8")
    return Tape(path, 100, form or TapeForm())


def named(tape_format: TapeFormat, symbol: str | None = None, **more: str) -> TapeForm:
    return TapeForm(tape_format, parse_columns(more.get("columns", "")), symbol)


# Spot since 2025: id, price, qty, quoteQty, time in µs, isBuyerMaker, isBestMatch; no names.
BINANCE_SPOT = """\
51175358,0.31600000,27.0,8.53200000,1710513000000123,True,True
51175359,0.31700000,10.0,3.17000000,1710513000999999,False,True
51175360,0.31500000,5.0,1.57500000,1710513001000456,True,True
"""
DOGE = ("BINANCE:DOGEUSDT",)


def test_spot_trades_of_binance(tmp_path):
    tape = tape_of(tmp_path, BINANCE_SPOT, named(TapeFormat.BINANCE, *DOGE))
    assert played(tape) == [
        (*DOGE, 0, 0.316, 27.0, None),
        (*DOGE, 999, 0.317, 10.0, None),
        (*DOGE, 1000, 0.315, 5.0, None),
    ]
    assert bars(tape) == {DOGE[0]: (0.316, 0.317, 0.315, 0.315, Decimal(42), 3)}
    assert tape.notes.times == "microseconds since 1970"


@pytest.mark.parametrize(
    "content",
    [
        # Spot before 2025: ms.
        "1,0.316,27.0,8.532,1710513000000,True,True\n",
        # Futures have a line of names, and had none.
        "id,price,qty,quote_qty,time,is_buyer_maker\n1,0.316,27.0,8.532,1710513000000,true\n",
        "1,0.316,27.0,8.532,1710513000000,true\n",
        # Aggregates of spot and futures; an id may look like seconds.
        "7,0.316,27.0,1710513000,1710513001,1710513000000123,True,True\n",
        "7,0.316,27.0,1710513000,1710513001,1710513000000,true\n",
        (
            "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
            "7,0.316,27.0,1710513000,1710513001,1710513000000,true\n"
        ),
    ],
)
def test_other_dumps_of_binance(tmp_path, content):
    tape = tape_of(tmp_path, content, named(TapeFormat.BINANCE, *DOGE))
    assert played(tape) == [(*DOGE, 0, 0.316, 27.0, None)]


def test_a_dump_of_binance_with_names_is_recognised_and_one_without_is_not(tmp_path):
    names = "id,price,qty,quote_qty,time,is_buyer_maker\n"
    tape = tape_of(tmp_path, names + "1,2,3,6,1710513000000,true\n", TapeForm(symbol="X"))
    assert played(tape) == [("X", 0, 2.0, 3.0, None)]
    assert "Read as binance's trades, by the names of its columns." in tape.notes.in_short()
    with pytest.raises(TapeError, match="--format binance"):
        tape_of(tmp_path, BINANCE_SPOT, TapeForm(symbol="X"))


def test_candles_of_binance_are_no_trades(tmp_path):
    candle = "1735689600000000,4.1,4.1,4.1,4.1,539.2,1735693199999999,2240.3,13,401.8,1669.9,0\n"
    with pytest.raises(TapeError, match="is no tape in format binance: it has no names"):
        tape_of(tmp_path, candle, named(TapeFormat.BINANCE, *DOGE))


def test_a_dump_without_symbols_asks_for_one(tmp_path):
    with pytest.raises(TapeError, match="has no column of symbols: name its symbol, as --symbol"):
        tape_of(tmp_path, BINANCE_SPOT, named(TapeFormat.BINANCE))


def test_time_and_sales_of_kraken(tmp_path):
    """Seconds, price, volume; no names."""
    dump = "1710513000,69000.10000,0.50000000\n1710513000,69000.00000,0.25\n1710513299,69010.2,1\n"
    tape = tape_of(tmp_path, dump, named(TapeFormat.KRAKEN, "KRAKEN:XBT/USD"))
    assert bars(tape) == {
        "KRAKEN:XBT/USD": (69_000.1, 69_010.2, 69_000.0, 69_010.2, Decimal("1.75"), 3)
    }
    fractions = "1710513000.7998,69000.1,0.5\n1710513001.0001,69000.2,0.5\n"
    tape = tape_of(tmp_path, fractions, named(TapeFormat.KRAKEN, "K"))
    assert [row[1] for row in played(tape)] == [799, 1000]


POLYGON = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,"
    "sip_timestamp,size,tape,trf_id,trf_timestamp\n"
    'A,"14,41",0,11,1,1710513000099000000,10.1,1,1710513000100000001,100,1,0,0\n'
    'A,"12,37",0,11,2,1710513000199000000,10.9,2,1710513000200999999,5,1,0,0\n'
    "A,2,0,11,3,1710513000299000000,99,3,1710513000300000000,50,1,0,0\n"
    "A,37,0,11,4,1710513000399000000,9,4,1710513000400000000,7,1,0,0\n"
    "A,,0,11,5,1710513000499000000,10.05,5,1710513000500000000,200,1,0,0\n"
    "A,15,0,11,6,1710513000599000000,12,6,1710513000600000000,1000,1,0,0\n"
    "A,10,1,11,7,1710513000699000000,10.2,7,1710513000700000000,30,1,0,0\n"
)


def test_a_flat_file_of_polygon(tmp_path):
    """A sweep opens; form T by day, an average and an odd lot add volume only (5 + 50 + 7); the
    regular trade is low and close; an official close is no volume; a derived price is the high.
    """
    path = tmp_path / "2024-03-15.csv.gz"
    path.write_bytes(gzip.compress(POLYGON.encode()))
    tape = Tape(path, 100)
    assert [row[4] for row in played(tape)] == [
        ["8", "41"],
        ["24", "12"],
        ["3"],
        ["12"],
        None,
        ["16"],
        ["32"],
    ]
    assert [row[1] for row in played(tape)] == [100, 200, 300, 400, 500, 600, 700]
    assert bars(tape) == {"A": (10.1, 10.2, 10.05, 10.05, Decimal(392), 7)}
    assert tape.notes.times == "nanoseconds since 1970"
    short = " ".join(tape.notes.in_short())
    assert "Read as polygon's trades, by the names of its columns." in short
    corrected = "have been corrected or cancelled later, and are played (column correction): 1."
    assert f"Trades that {corrected}" in short


def test_a_file_of_polygon_that_goes_by_ticker_is_played_by_time(tmp_path):
    names, first = POLYGON.splitlines()[:2]
    rows = [
        first.replace("1710513000100000001", f"{ns}").replace(",10.1,", f",{price},")
        for ns, price in (
            (1_710_513_000_100_000_001, 1),
            (1_710_513_000_100_900_000, 2),
            (1_710_513_000_300_000_000, 3),
        )
    ]
    others = [row.replace("A,", "B,", 1) for row in rows]
    tape = tape_of(tmp_path, "\n".join([names, *rows, *others]))
    assert [row[:3] for row in played(tape)] == [
        ("A", 100, 1.0),
        ("A", 100, 2.0),
        ("B", 100, 1.0),
        ("B", 100, 2.0),
        ("A", 300, 3.0),
        ("B", 300, 3.0),
    ]
    assert tape.notes.back.trades == 0
    assert "One symbol after the other in the file, played in order of time." in (
        tape.notes.in_short()
    )


def test_conditions_of_polygons_crypto_trades_are_the_buyers_side_and_none(tmp_path):
    dump = (
        "ticker,conditions,exchange,id,participant_timestamp,price,size\n"
        "X:BTC-USD,2,1,9,1710513000123000000,69000.5,0.01\n"
    )
    assert played(tape_of(tmp_path, dump)) == [("X:BTC-USD", 123, 69_000.5, 0.01, None)]


def test_options_of_polygon_keep_their_conditions(tmp_path):
    dump = (
        "ticker,conditions,correction,exchange,price,sip_timestamp,size\n"
        "O:A240315C00140000,209,0,313,1.05,1710513000123000000,2\n"
    )
    tape = tape_of(tmp_path, dump)
    assert played(tape) == [("O:A240315C00140000", 123, 1.05, 2.0, ["polygon-209"])]
    assert tape.notes.conditions.unknown == {"polygon-209": 1}


ALPACA = (
    "symbol,timestamp,exchange,price,size,id,conditions,tape\n"
    "SPY,2024-03-15 14:30:00.100200300+00:00,P,512.1,100,1,\"['@']\",B\n"
    "SPY,2024-03-15 14:30:00.200+00:00,P,600.0,40,2,\"[' ', 'B']\",B\n"
    "AAPL,2024-03-15 14:30:00.250+00:00,Q,171.9,60,3,\"['@', 'B']\",C\n"
    "SPY,2024-03-15 14:30:00.300+00:00,P,512.0,30,4,\"['@', 'F', 'I']\",B\n"
    "SPY,2024-03-15 14:30:00.400+00:00,P,512.3,10,5,\"[' ']\",B\n"
)


def test_a_data_frame_of_alpaca(tmp_path):
    """SPY is on the CTA's tape, where B is an average price; on UTP's it is a bunched trade."""
    tape = tape_of(tmp_path, ALPACA)
    assert [row[4] for row in played(tape)] == [["1"], ["3"], ["1", "4"], ["1", "8", "12"], None]
    assert bars(tape) == {
        "SPY": (512.1, 512.3, 512.1, 512.3, Decimal(180), 4),
        "AAPL": (171.9, 171.9, 171.9, 171.9, Decimal(60), 1),
    }
    assert not [line for line in tape.notes.in_short() if "condition B" in line]


def test_fields_of_alpacas_api(tmp_path):
    table = {
        "t": ["2024-03-15T14:30:00.123456789Z"],
        "x": ["V"],
        "p": [45.45],
        "s": [100],
        "c": [["@", "T"]],
        "i": [625],
        "z": ["C"],
    }
    path = tmp_path / "csco"
    pq.write_table(pa.table(table), path)
    tape = Tape(path, 100, TapeForm(symbol="CSCO"))
    assert played(tape) == [("CSCO", 123, 45.45, 100.0, ["1", "24"])]


DATABENTO = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,"
    "ts_in_delta,sequence,symbol\n"
)


@pytest.mark.parametrize(
    "rows",
    [
        # As they are on the wire: ns, and prices in units of 1e-9.
        (
            "1710513000100900000,1710513000100500000,0,2,7,T,B,0,4500250000000,3,0,165,1,ESM4\n"
            "1710513000300900000,1710513000300500000,0,2,7,T,A,0,4500000000000,2,0,165,2,ESM4\n"
        ),
        # As people read them.
        (
            "2024-03-15T14:30:00.1009Z,2024-03-15T14:30:00.100500000Z,0,2,7,T,B,0,4500.250000000,3,0,1"
            ",1,ESM4\n"
            "2024-03-15T14:30:00.3009Z,2024-03-15T14:30:00.300500000Z,0,2,7,T,A,0,4500.000000000,2,0,1"
            ",2,ESM4\n"
        ),
    ],
)
def test_trades_of_databento(tmp_path, rows):
    tape = tape_of(tmp_path, DATABENTO + rows)
    assert played(tape) == [
        ("ESM4", 100, 4500.25, 3.0, None),
        ("ESM4", 300, 4500.0, 2.0, None),
    ]
    assert bars(tape) == {"ESM4": (4500.25, 4500.25, 4500.0, 4500.0, Decimal(5), 2)}
    is_fixed = ".25" not in rows
    assert (
        "Prices are whole numbers in units of 0.000000001." in tape.notes.in_short()
    ) is is_fixed


@pytest.mark.parametrize(
    ("price", "sentence"),
    [
        ("9223372036854775807", "column price, row 3: '9223372036854775807' stands for no price"),
        ("4500.25", "column price, row 2: '4500000000000' has no decimal point and other prices"),
        ("", "column price has 1 empty values, the first in row 3"),
        ("4500x", "column price, row 3: '4500x' is no number"),
    ],
)
def test_a_price_of_databento_that_is_none_is_refused(tmp_path, price, sentence):
    row = "1710513000100900000,1710513000100500000,0,2,7,T,B,0,{},3,0,165,1,ESM4\n"
    with pytest.raises(TapeError) as caught:
        tape_of(tmp_path, DATABENTO + row.format("4500000000000") + row.format(price))
    assert sentence in str(caught.value)


def test_orders_of_databento_are_no_trades(tmp_path):
    row = "1710513000100900000,1710513000100500000,1,2,7,{},B,0,4500250000000,3,0,165,1,ESM4\n"
    with pytest.raises(TapeError, match="column action, row 3: 'A' is no trade"):
        tape_of(tmp_path, DATABENTO + row.format("T") + row.format("A"))


@pytest.mark.parametrize(
    "prices",
    [pa.array([4_500_250_000_000], pa.int64()), pa.array([4500.25], pa.float64())],
)
def test_parquet_of_databento(tmp_path, prices):
    columns = {
        "ts_event": pa.array([1_710_513_000_100_500_000], pa.timestamp("ns", "UTC")),
        "rtype": [0],
        "publisher_id": [2],
        "instrument_id": [7],
        "action": ["T"],
        "side": ["B"],
        "price": prices,
        "size": pa.array([3], pa.uint32()),
        "flags": [0],
        "sequence": [1],
    }
    path = tmp_path / "glbx.parquet"
    pq.write_table(pa.table(columns), path)
    tape = Tape(path, 100, named(TapeFormat.DATABENTO, columns="symbol=instrument_id"))
    assert played(tape) == [("7", 100, 4500.25, 3.0, None)]


def test_the_user_goes_before_the_vendors_shape(tmp_path):
    form = TapeForm(
        TapeFormat.POLYGON,
        parse_columns("time=participant_timestamp"),
        codes=ConditionCodes.FINNHUB,
    )
    rows = played(tape_of(tmp_path, POLYGON, form))
    assert rows[0] == ("A", 99, 10.1, 100.0, ["14", "41"])


def test_a_format_that_the_file_has_not_is_refused_with_what_it_has(tmp_path):
    with pytest.raises(TapeError) as caught:
        tape_of(tmp_path, "a,b\n1,2\n", named(TapeFormat.POLYGON))
    assert "is no tape in format polygon: it has a, b, and the format has ticker," in str(
        caught.value
    )


def test_our_own_columns_go_before_a_vendors(tmp_path):
    names = "event_time_ms,symbol,price,volume,id,qty,quote_qty,time,is_buyer_maker\n"
    tape = tape_of(tmp_path, names + "1710513000100,A,1,2,9,8,7,1710513000999,true\n")
    assert played(tape) == [("A", 100, 1.0, 2.0, None)]
    assert tape.notes.format is TapeFormat.TAPELINE
