"""The form of a tape: found by what the file holds, its columns by name or as the user says."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.model.errors import TapeError, UsageError
from tapeline.simulator.tape import Tape
from tapeline.simulator.tape_file.form import TapeForm, parse_columns
from tapeline.simulator.tape_file.presets import Role

HEADER = "event_time_ms,symbol,price,volume,conditions"
ROWS = "1710513000100,TEST,10.00,100,1\n1710513000200,TEST,10.01,50,1|12\n"
TAPE = f"{HEADER}\n{ROWS}".encode()
TRADES = [
    {"s": "TEST", "p": 10.0, "t": 1_710_513_000_100, "v": 100.0, "c": ["1"]},
    {"s": "TEST", "p": 10.01, "t": 1_710_513_000_200, "v": 50.0, "c": ["1", "12"]},
]
PLAIN = [{**trade, "c": None} for trade in TRADES]
NUMBERED = "time=3,symbol=2,price=1,size=4"


def as_parquet(content: dict[str, object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(content), file)
    return file.getvalue()


PARQUET = as_parquet(
    {
        "event_time_ms": [1_710_513_000_100, 1_710_513_000_200],
        "symbol": ["TEST", "TEST"],
        "price": [10.0, 10.01],
        "volume": [100, 50],
        "conditions": ["1", "1|12"],
    }
)


def trades(folder: Path, name: str, content: bytes, form: TapeForm | None = None) -> list[object]:
    path = folder / name
    path.write_bytes(content)
    tape = Tape(path, 100, form or TapeForm())
    return [trade for frame in tape.frames(0) for trade in frame.trades]


def refusal(folder: Path, content: bytes, form: TapeForm | None = None) -> str:
    with pytest.raises(TapeError) as caught:
        trades(folder, "tape.csv", content, form)
    return str(caught.value)


def told(columns: str, symbol: str | None = None) -> TapeForm:
    return TapeForm(columns=parse_columns(columns), symbol=symbol)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gz_named.csv", gzip.compress(TAPE)),
        ("tape.CSV.GZ", gzip.compress(TAPE)),
        ("plain.csv.gz", TAPE),
        ("two_members.gz", gzip.compress(TAPE[:60]) + gzip.compress(TAPE[60:])),
        ("tape.pq", PARQUET),
        ("tape", PARQUET),
        ("tape.parquet", TAPE),
        ("tape.parquet", gzip.compress(TAPE)),
        ("zstd.csv", pa.compress(TAPE, codec="zstd", asbytes=True)),
    ],
)
def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path, name, content):
    assert trades(tmp_path, name, content) == TRADES


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + TAPE,
        TAPE.replace(b",", b";"),
        TAPE.replace(b",", b"\t"),
        b"\xef\xbb\xbf" + TAPE.replace(b",", b";"),
        TAPE.replace(b"\n", b"\r\n"),
        b"\n\n" + TAPE,
        TAPE.replace(b"event_time_ms,symbol", b"event_time_ms, symbol "),
        TAPE.replace(b"symbol,price", b'"symbol","price"'),
        TAPE.rstrip(b"\n"),
    ],
)
def test_marks_separators_and_line_ends_of_other_programs_are_read(tmp_path, content):
    assert trades(tmp_path, "tape.csv", content) == TRADES


def test_a_separator_inside_the_names_is_none(tmp_path):
    lines = (TAPE.replace(b"conditions", b"conditions,a;note")).splitlines()
    content = b"\n".join([lines[0], *(line + b",x" for line in lines[1:])])
    assert trades(tmp_path, "tape.csv", content) == TRADES


def test_a_separator_that_is_not_clear_is_refused(tmp_path):
    content = b"ts,a;px,b\n1710513000100,1;10.0,1\n"
    assert "more than one of comma, semicolon and tab" in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("event_time_ms,symbol,price,price,volume,conditions", "price"),
        ("event_time_ms,symbol,price,volume,conditions,volume", "volume"),
        ("event_time_ms,symbol,symbol ,price,volume,conditions", "symbol"),
    ],
)
def test_a_column_that_is_there_twice_is_refused_and_named(tmp_path, header, name):
    row = {"event_time_ms": "1710513000100", "symbol": "TEST", "symbol ": "TEST", "conditions": "1"}
    content = f"{header}\n{','.join(row.get(n, '10') for n in header.split(','))}\n".encode()
    assert f"it has column {name} twice" in refusal(tmp_path, content)


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path):
    table = pq.read_table(io.BytesIO(PARQUET)).append_column("price", pa.array([1.0, 2.0]))
    path = tmp_path / "tape.pq"
    pq.write_table(table, path)
    with pytest.raises(TapeError, match="it has column price twice"):
        Tape(path, 100)


def test_other_columns_are_ignored_even_if_they_are_there_twice(tmp_path):
    content = b"note,event_time_ms,symbol,price,volume,conditions,note\n" + b"".join(
        b"x," + row + b",y\n" for row in ROWS.encode().splitlines()
    )
    assert trades(tmp_path, "tape.csv", content) == TRADES


def test_a_name_that_is_a_number_is_one_among_names(tmp_path):
    """As pandas writes columns that nobody named."""
    lines = TAPE.decode().splitlines()
    content = "\n".join([f"0,{lines[0]},7", *(f"x,{line},y" for line in lines[1:])])
    assert trades(tmp_path, "tape.csv", content.encode()) == TRADES


def test_columns_of_two_vendors_are_nobodys(tmp_path):
    binance = "id,price,qty,quote_qty,time,is_buyer_maker"
    polygon = "ticker,conditions,exchange,participant_timestamp,size"
    content = f"{binance},{polygon}\n1,2,3,6,1710513000000,true,A,,1,1710513000000,5\n"
    assert "Say which column is which" in refusal(tmp_path, content.encode())


def test_a_file_without_names_is_refused_with_what_to_do(tmp_path):
    message = refusal(tmp_path, b"51175358,17.8018,5.69,101.29,1583709433583,True,True\n")
    assert "its first row holds values, not names: 51175358,17.8018" in message
    assert "--format binance" in message
    assert "--columns time=1,symbol=2,price=3,size=4" in message


def test_a_file_without_names_is_read_by_the_numbers_of_its_columns(tmp_path):
    form = told("time=1,symbol=2,price=3,size=4,conditions=5")
    assert trades(tmp_path, "tape.csv", ROWS.encode(), form) == TRADES


def test_a_value_of_a_file_without_names_is_named_by_its_number(tmp_path):
    message = refusal(tmp_path, b"10,TEST,1710513000100,5\n10,TEST,17,5\n", told(NUMBERED))
    assert "column 3, row 2: '17' is no time" in message


def test_columns_are_named_by_the_user(tmp_path):
    content = TAPE.replace(HEADER.encode(), b"ts,tick er,px,qty,cond")
    form = told("time=ts, symbol=tick er, price=px, size=qty, conditions=cond")
    assert trades(tmp_path, "tape.csv", content, form) == TRADES


def test_only_what_differs_must_be_named_and_our_own_names_are_targets_too(tmp_path):
    content = TAPE.replace(b"event_time_ms", b"ts").replace(b"volume", b"qty")
    assert trades(tmp_path, "tape.csv", content, told("event_time_ms=ts,volume=qty")) == TRADES


def test_the_user_goes_before_our_own_names(tmp_path):
    content = b"event_time_ms,ts,symbol,price,volume\n1,1710513000100,TEST,10,100\n"
    (trade,) = trades(tmp_path, "tape.csv", content, told("time=ts"))
    assert trade == PLAIN[0]


def test_a_constant_symbol_stands_for_a_missing_column(tmp_path):
    content = b"event_time_ms,price,volume\n1710513000100,10.00,100\n1710513000200,10.01,50\n"
    assert trades(tmp_path, "tape.csv", content, TapeForm(symbol=" TEST ")) == PLAIN
    assert "--symbol BINANCE:BTCUSDT" in refusal(tmp_path, content)


def test_a_constant_symbol_beside_a_column_of_symbols_is_refused(tmp_path):
    assert "--symbol is for a tape without a column" in refusal(
        tmp_path, TAPE, TapeForm(symbol="A")
    )


@pytest.mark.parametrize("symbol", ["BTC,USD", "A" * 129, "A\tB", ""])
def test_a_constant_symbol_must_be_one(tmp_path, symbol):
    content = b"event_time_ms,price,volume\n1710513000100,10.00,100\n"
    assert "is not a valid symbol" in refusal(tmp_path, content, TapeForm(symbol=symbol))


@pytest.mark.parametrize("text", ["when=ts", "time", "time=", "=ts", "time=a,time=b", "price:px"])
def test_columns_that_say_nothing_are_refused(text):
    with pytest.raises(UsageError, match="--columns"):
        parse_columns(text)


def test_a_column_that_the_file_lacks_is_named_with_those_that_it_has(tmp_path):
    message = refusal(tmp_path, TAPE, told("time=ts"))
    assert "has no column ts; it has event_time_ms, symbol, price, volume, conditions." in message


def test_the_user_is_told_which_columns_are_missing(tmp_path):
    message = refusal(tmp_path, TAPE.replace(b"event_time_ms", b"ts").replace(b"price", b"px"))
    assert "it has no column event_time_ms, price; it has ts, symbol, px, volume" in message
    assert "--columns time=…,price=…" in message


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"DBN\x03rest", "DBN: write it as CSV"), (b"PK\x03\x04", "a zip archive: unpack it first")],
)
def test_archives_and_binary_files_that_are_not_read_are_named(tmp_path, content, what):
    assert what in refusal(tmp_path, content)


def test_a_real_zip_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "tape.csv", "w") as archive:
        archive.writestr("BTCUSDT-trades-2025-01-01.csv", ROWS)
    with pytest.raises(TapeError, match="zip archive: unpack it first"):
        Tape(tmp_path / "tape.csv", 100)


def test_symbols_are_trimmed(tmp_path):
    content = TAPE.replace(b",TEST,", b",  TEST   ,")
    assert trades(tmp_path, "tape.csv", content) == TRADES
    table = pq.read_table(io.BytesIO(PARQUET))
    padded = as_parquet({**table.to_pydict(), "symbol": ["TEST    ", " TEST"]})
    assert trades(tmp_path, "tape.pq", padded) == TRADES


def test_a_blank_symbol_is_empty(tmp_path):
    assert "has 1 empty values, the first in row 3" in refusal(
        tmp_path, TAPE.replace(b"200,TEST", b"200,  ")
    )


@pytest.mark.parametrize(
    ("symbol", "why"),
    [
        ('"BTC,USD"', "'BTC,USD' is not a valid symbol: a comma separates symbols in lists"),
        ("X" * 129, "more than 128 characters"),
        ("A\x01B", "control character"),
    ],
)
def test_a_symbol_that_no_command_could_name_is_refused(tmp_path, symbol, why):
    message = refusal(tmp_path, TAPE.replace(b"200,TEST", b"200," + symbol.encode()))
    assert "column symbol, row 3" in message
    assert why in message


def test_symbols_that_are_numbers_in_parquet_are_read(tmp_path):
    table = pq.read_table(io.BytesIO(PARQUET))
    content = as_parquet({**table.to_pydict(), "symbol": [700, 5]})
    assert [trade["s"] for trade in trades(tmp_path, "tape.pq", content)] == ["700", "5"]


def test_parquet_prices_that_are_text_or_decimals_are_numbers(tmp_path):
    table = pq.read_table(io.BytesIO(PARQUET))
    content = as_parquet({**table.to_pydict(), "price": ["10.00", "10.01"]})
    assert trades(tmp_path, "tape.pq", content) == TRADES
    path = tmp_path / "tape.parquet"
    path.write_bytes(as_parquet({**table.to_pydict(), "price": ["10.00", "ten"]}))
    with pytest.raises(TapeError, match="column price, row 2: 'ten' is no number"):
        Tape(path, 100)


def test_the_options_of_a_form_say_the_same_to_another_command():
    form = TapeForm(columns={Role.TIME: "ts", Role.SIZE: "q"}, symbol="BTC")
    assert form.arguments() == ["--columns", "time=ts,size=q", "--symbol", "BTC"]
    assert TapeForm().arguments() == []
