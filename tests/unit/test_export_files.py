"""The files of an export: names that are safe anywhere, whole or not there, exact values."""

from __future__ import annotations

import csv
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tapeline.export.files import ExportFormat, path_in_export, write_file
from tapeline.read.trades import trades_schema

DAY = date(2024, 3, 15)
SCHEMA = trades_schema(exact=True)
AT = datetime(2024, 3, 15, 14, 30, 0, 100_000, tzinfo=timezone.utc)
ROW = {
    "symbol": "BINANCE:BTCUSDT",
    "event_time": AT,
    "price": 50_000.1,
    "volume": Decimal("0.3000000000"),
    "conditions": ["1", "12"],
    "trade_id": -9_007_199_254_740_993,  # more than a double can hold
    "sequence": 2,
    "source": "replay",
    "received_at": AT,
}
PLAIN = {**ROW, "conditions": None}


def batches(*rows):
    return [pa.RecordBatch.from_pylist([row], SCHEMA) for row in rows]


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AAPL", "AAPL"),
        ("BINANCE:BTCUSDT", "BINANCE%3ABTCUSDT"),
        ("BRKa", "BRK%61"),
        ("BRK/B", "BRK%2FB"),
        ("BRK.B", "BRK.B"),
        ("^GSPC", "%5EGSPC"),
        ("..", "%2E."),
        ("../../ETC/x", "%2E.%2F..%2FETC%2F%78"),
        ("_HID", "%5FHID"),
        ("50%", "50%25"),
        ("ÄÖ", "%C3%84%C3%96"),
    ],
)
def test_a_symbol_is_one_visible_file_of_its_day(symbol, name):
    assert path_in_export(DAY, symbol, ExportFormat.PARQUET) == f"date=2024-03-15/{name}.parquet"


def test_a_long_name_is_cut_and_stays_one_of_its_own():
    first, second = (
        Path(path_in_export(DAY, "Ä" * 127 + end, ExportFormat.PARQUET)).name for end in "AB"
    )
    assert first != second
    assert max(len(first), len(second)) < 255 - len(".part") - 32


def test_parquet_and_arrow_hold_the_exact_types_and_values(tmp_path):
    parquet, arrow = tmp_path / "a.parquet", tmp_path / "a.arrow"
    for path in (parquet, arrow):
        file_format = ExportFormat(path.suffix[1:])
        assert write_file(path, SCHEMA, batches(ROW, PLAIN), file_format) == 2

    with pa.ipc.open_file(arrow) as file:
        tables = [pq.read_table(parquet), file.read_all()]
    for table in tables:
        assert table.schema.equals(SCHEMA)
        assert table.to_pylist() == [ROW, PLAIN]


def test_csv_has_iso_times_joined_conditions_and_nothing_for_null(tmp_path):
    path = tmp_path / "a.csv"
    write_file(path, SCHEMA, batches(ROW, PLAIN), ExportFormat.CSV)

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "symbol": "BINANCE:BTCUSDT",
        "event_time": "2024-03-15T14:30:00.100Z",
        "price": "50000.1",
        "volume": "0.3000000000",
        "conditions": "1|12",
        "trade_id": "-9007199254740993",
        "sequence": "2",
        "source": "replay",
        "received_at": "2024-03-15T14:30:00.100Z",
    }
    assert rows[1]["conditions"] == ""


def test_a_file_that_fails_half_way_leaves_the_earlier_one_and_nothing_else(tmp_path):
    path = tmp_path / "date=2024-03-15" / "A.parquet"
    write_file(path, SCHEMA, batches(ROW), ExportFormat.PARQUET)
    before = path.read_bytes()

    def broken():
        yield from batches(PLAIN)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - raised above
        write_file(path, SCHEMA, broken(), ExportFormat.PARQUET)

    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["A.parquet"]


def test_without_rows_or_with_too_few_nothing_appears(tmp_path):
    path = tmp_path / "A.parquet"
    assert write_file(path, SCHEMA, [], ExportFormat.PARQUET) == 0
    assert write_file(path, SCHEMA, batches(ROW), ExportFormat.PARQUET, lambda: False) == 1
    assert list(tmp_path.iterdir()) == []


def test_readers_of_partitioned_folders_see_the_day_and_no_unfinished_file(tmp_path):
    for symbol in ("BINANCE:BTCUSDT", "_HID"):
        path = tmp_path / path_in_export(DAY, symbol, ExportFormat.PARQUET)
        write_file(path, SCHEMA, batches({**ROW, "symbol": symbol}), ExportFormat.PARQUET)
    (tmp_path / "date=2024-03-15" / ".A.parquet.part").write_bytes(b"half")

    table = ds.dataset(tmp_path, partitioning="hive").to_table()

    assert set(table["symbol"].to_pylist()) == {"BINANCE:BTCUSDT", "_HID"}
    assert table["date"].to_pylist() == ["2024-03-15"] * 2
