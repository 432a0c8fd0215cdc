"""Reading tapes: formats, frames, and what is no tape."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeline.model.errors import TapeError
from tapeline.simulator.feed import FeedFrame
from tapeline.simulator.tape import Tape

HEADER = "event_time_ms,symbol,price,volume,conditions"
NEEDED = ["event_time_ms", "symbol", "price", "volume"]
T0 = 1_763_649_000_000

ROWS = (
    f"{T0 + 10},AAPL,189.13,100,1",
    f"{T0 + 10},AAPL,189.13,100,1",
    f"{T0 + 99},BINANCE:BTCUSDT,84900.01,0.00071,",
    f"{T0 + 100},AAPL,189.14,7,1|12",
    f"{T0 + 450},IC MARKETS:1,1.1512,0,",
)

FRAMES = [
    FeedFrame(
        T0 + 99,
        [
            {"s": "AAPL", "p": 189.13, "t": T0 + 10, "v": 100.0, "c": ["1"]},
            {"s": "AAPL", "p": 189.13, "t": T0 + 10, "v": 100.0, "c": ["1"]},
            {"s": "BINANCE:BTCUSDT", "p": 84_900.01, "t": T0 + 99, "v": 0.00071, "c": None},
        ],
    ),
    FeedFrame(T0 + 100, [{"s": "AAPL", "p": 189.14, "t": T0 + 100, "v": 7.0, "c": ["1", "12"]}]),
    FeedFrame(T0 + 450, [{"s": "IC MARKETS:1", "p": 1.1512, "t": T0 + 450, "v": 0.0, "c": None}]),
]

COLUMNS = {
    "event_time_ms": pa.array([T0 + 10, T0 + 10, T0 + 99, T0 + 100, T0 + 450], pa.int64()),
    "symbol": ["AAPL", "AAPL", "BINANCE:BTCUSDT", "AAPL", "IC MARKETS:1"],
    "price": [189.13, 189.13, 84_900.01, 189.14, 1.1512],
    "volume": [100.0, 100.0, 0.00071, 7.0, 0.0],
    "conditions": ["1", "1", None, "1|12", ""],
}


def csv_of(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def write(tmp_path):
    """Write a CSV tape of some rows and return its path."""

    def write(*rows, header=HEADER, name="tape.csv"):
        path = tmp_path / name
        path.write_text(csv_of(*rows, header=header), encoding="utf-8")
        return path

    return write


def frames(path, frame_ms=100):
    return list(Tape(path, frame_ms).frames(0))


def times(path, frame_ms=100):
    return [[t["t"] - T0 for t in f.trades] for f in frames(path, frame_ms)]


def test_csv_gives_these_frames(write):
    assert frames(write(*ROWS)) == FRAMES


def test_gzipped_csv_gives_the_same_frames(tmp_path):
    path = tmp_path / "tape.csv.gz"
    path.write_bytes(gzip.compress(csv_of(*ROWS).encode()))
    assert frames(path) == FRAMES


def test_parquet_gives_the_same_frames(tmp_path):
    path = tmp_path / "tape.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    assert frames(path) == FRAMES


def test_parquet_with_whole_number_prices_and_other_columns_is_read_too(tmp_path):
    path = tmp_path / "tape.parquet"
    table = pa.table(
        {
            "venue": ["Q"],
            "conditions": ["1|8"],
            "volume": pa.array([5], pa.int32()),
            "price": pa.array([189], pa.int64()),
            "symbol": ["AAPL"],
            "event_time_ms": [T0],
        }
    )
    pq.write_table(table, path)
    assert frames(path) == [
        FeedFrame(T0, [{"s": "AAPL", "p": 189.0, "t": T0, "v": 5.0, "c": ["1", "8"]}])
    ]


def test_columns_may_come_in_another_order_with_others_between(write):
    path = write(
        f"x,12,5,{T0},1.5,AAPL", header="note,conditions,volume,event_time_ms,price,symbol"
    )
    assert frames(path) == [
        FeedFrame(T0, [{"s": "AAPL", "p": 1.5, "t": T0, "v": 5.0, "c": ["12"]}])
    ]


def test_a_tape_knows_its_trades_symbols_and_start(write):
    tape = Tape(write(*ROWS), 100)
    assert tape.trades == 5
    assert tape.symbols == ("AAPL", "BINANCE:BTCUSDT", "IC MARKETS:1")
    assert tape.start_ms == T0 + 10


def test_frames_are_cut_at_every_hundred_milliseconds_of_event_time(write):
    rows = [f"{T0 + ms},A,1,1," for ms in (0, 50, 99, 100, 199, 200, 1000)]
    assert times(write(*rows)) == [[0, 50, 99], [100, 199], [200], [1000]]


def test_the_length_of_a_frame_can_be_set(write):
    rows = [f"{T0 + ms},A,1,1," for ms in (0, 50, 99, 100, 199, 200, 1000)]
    assert times(write(*rows), frame_ms=1000) == [[0, 50, 99, 100, 199, 200], [1000]]
    assert times(write(*rows), frame_ms=1) == [[0], [50], [99], [100], [199], [200], [1000]]


def test_trades_of_one_millisecond_share_a_frame_however_many_there_are(write):
    rows = [f"{T0 + 42},A,{i}.5,1," for i in range(25_000)]
    (frame,) = frames(write(*rows), frame_ms=1)
    assert [t["p"] for t in frame.trades] == [i + 0.5 for i in range(25_000)]


def test_the_order_of_the_tape_is_kept_where_times_step_back(write):
    rows = [f"{T0 + ms},A,1,1," for ms in (120, 110, 90, 130)]
    assert times(write(*rows)) == [[120, 110], [90], [130]]


def test_every_call_starts_the_tape_again(write):
    tape = Tape(write(*ROWS), 100)
    assert list(tape.frames(0)) == list(tape.frames(10**15)) == FRAMES


def test_the_symbol_na_is_a_symbol(write):
    assert Tape(write(f"{T0},NA,1,1,"), 100).symbols == ("NA",)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TapeError, match=r"There is no tape .*nowhere\.csv"):
        Tape(tmp_path / "nowhere.csv", 100)


def test_a_missing_parquet_file_is_named(tmp_path):
    with pytest.raises(TapeError, match=r"There is no tape .*nowhere\.parquet"):
        Tape(tmp_path / "nowhere.parquet", 100)


def test_a_folder_is_no_tape(tmp_path):
    with pytest.raises(TapeError):
        Tape(tmp_path, 100)


@pytest.mark.parametrize("name", ["tape.csv", "tape.csv.gz", "tape.parquet"])
@pytest.mark.parametrize("content", [b"", b"\x00\x01nonsense\xff"])
def test_other_files_are_no_tape(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TapeError, match="is no tape"):
        Tape(path, 100)


def test_a_cut_off_gzip_is_no_tape(tmp_path):
    path = tmp_path / "tape.csv.gz"
    path.write_bytes(gzip.compress(csv_of(*(ROWS * 2000)).encode())[:200])
    with pytest.raises(TapeError, match="is no tape"):
        Tape(path, 100)


def test_a_tape_without_a_trade_says_so(write):
    with pytest.raises(TapeError, match="holds no trade"):
        Tape(write(), 100)


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_column_is_no_tape(write, missing):
    names = [n for n in HEADER.split(",") if n != missing]
    with pytest.raises(TapeError, match=missing):
        Tape(write(",".join("1" for _ in names), header=",".join(names)), 100)


def test_a_column_of_conditions_may_be_missing(write):
    (frame,) = frames(write(f"{T0},A,1.5,2", header="event_time_ms,symbol,price,volume"))
    assert frame.trades == [{"s": "A", "p": 1.5, "t": T0, "v": 2.0, "c": None}]


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_parquet_column_is_no_tape(tmp_path, missing):
    path = tmp_path / "tape.parquet"
    pq.write_table(pa.table(COLUMNS).drop_columns(missing), path)
    with pytest.raises(TapeError, match=missing):
        Tape(path, 100)


@pytest.mark.parametrize(
    "row",
    [
        "2025-11-20,A,1,1,",
        f"{T0}.x,A,1,1,",
        f"{T0},A,one,1,",
        f"{T0},A,1,one,",
        f"{T0},A,1",
    ],
)
def test_a_value_of_another_type_is_no_tape(write, row):
    with pytest.raises(TapeError, match="is no tape"):
        Tape(write(row), 100)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (",A,1,1,", "event_time_ms"),
        (f"{T0},,1,1,", "symbol"),
        (f"{T0},A,,1,", "price"),
        (f"{T0},A,1,,", "volume"),
    ],
)
def test_an_empty_value_is_named_by_its_column(write, row, column):
    with pytest.raises(TapeError, match=f"column {column} has 1 empty"):
        Tape(write(f"{T0},A,1,1,", row), 100)


@pytest.mark.parametrize("column", ["event_time_ms", "symbol", "price", "volume"])
def test_an_empty_parquet_value_is_named_by_its_column(tmp_path, column):
    path = tmp_path / "tape.parquet"
    table = pa.table(COLUMNS)
    values = [None, *table[column].to_pylist()[1:]]
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, column, pa.array(values)), path)
    with pytest.raises(TapeError, match=f"column {column} has 1 empty"):
        Tape(path, 100)


@pytest.mark.parametrize("row", [f"{T0},A,x,1,", f"{T0},A,1", f"{T0},A,nan,1,", f"{T0},A,,1,"])
def test_the_row_that_is_no_trade_is_named(write, row):
    """The names of the columns are row 1."""
    good = f"{T0},A,1,1,"
    with pytest.raises(TapeError, match=r"[Rr]ow #?4\b"):
        Tape(write(good, good, row, good), 100)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("column", ["price", "volume"])
def test_a_number_that_no_frame_can_hold_is_no_trade(write, column, value):
    row = {"price": "1", "volume": "1", column: value}
    with pytest.raises(TapeError, match=f"column {column} has 1 NaN or infinite .* row 3"):
        Tape(write(f"{T0},A,1,1,", f"{T0},A,{row['price']},{row['volume']},"), 100)


@pytest.mark.parametrize(
    "row", [f'{T0},A,1,1,"1', f'{T0},"A,1,1,1', f'{T0},A,1,1,"1,note', f'{T0},A,1,1,1,"note']
)
def test_a_quote_without_an_end_takes_no_row_for_part_of_its_value(write, row):
    rows = [f"{T0},A,1,1,1,a note", row + ("," * (5 - row.count(","))), f'{T0},"A",1,1,1,"a note"']
    with pytest.raises(TapeError, match=r"line 3 |Row #3"):
        Tape(write(*rows, rows[0], header=HEADER + ",note"), 100)


def test_quoted_values_are_read(write):
    (frame,) = frames(write(f'{T0},"A ""B"" C","1.5",2,"1|8"', header=HEADER))
    assert frame.trades == [{"s": 'A "B" C', "p": 1.5, "t": T0, "v": 2.0, "c": ["1", "8"]}]


@pytest.mark.parametrize("column", ["symbol", "conditions"])
def test_parquet_text_that_is_no_utf_8_is_no_tape(tmp_path, column):
    path = tmp_path / "tape.parquet"
    pq.write_table(pa.table({**COLUMNS, column: ["QZQZQ"] * 5}), path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"QZQZQ", b"Q\xff\xfeZQ"))
    with pytest.raises(TapeError, match="is no tape"):
        frames(path)


def test_what_is_wrong_is_said_in_one_line(write):
    with pytest.raises(TapeError) as caught:
        Tape(write(f"{T0},A\0\x1b[31m{'x' * 5000},1"), 100)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", [pa.string(), pa.int32()])
def test_parquet_conditions_may_be_lists(tmp_path, kind):
    path = tmp_path / "tape.parquet"
    lists = pa.array([["1"], ["1"], None, ["1", "12"], []], pa.list_(pa.string()))
    pq.write_table(pa.table({**COLUMNS, "conditions": lists.cast(pa.list_(kind))}), path)
    assert frames(path) == FRAMES
