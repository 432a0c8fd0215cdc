"""Trades and exports on a real Cassandra: files equal silver and gold, row for row."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rich.progress import Progress

from tapeline import read_bars, read_trades
from tapeline.export.content import ExportOptions, Kind
from tapeline.export.files import ExportFormat, read_file
from tapeline.export.job import ExportResult, run_export
from tapeline.model.bar import Interval
from tapeline.model.read_interval import ReadInterval
from tapeline.read.bars import bars_schema
from tapeline.simulator.tape import Tape
from tapeline.storage.topics import TopicState
from tests.commands import wait_for
from tests.hand import TAPE, TRADES, hand_bars
from tests.pipeline import Pipeline
from tests.sample import export_options

DAY = datetime(2024, 3, 15, tzinfo=timezone.utc)
NEXT = DAY + timedelta(days=1)
SYMBOLS = ["TEST", "COIN:TESTUSD"]
FILES = ["COIN%3ATESTUSD.parquet", "TEST.parquet"]
BARS = export_options()
TRADES_ONLY = replace(BARS, kind=Kind.TRADES)


@pytest.fixture
def finalized(pipeline: Pipeline) -> Pipeline:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.finalize()
    return pipeline


def export(pipeline: Pipeline, folder: Path, options: ExportOptions) -> ExportResult:
    return run_export(pipeline.client, folder, options, Progress(console=Console(stderr=True)))


def files_of(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "date=2024-03-15").iterdir())


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def silver(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The rows of the table itself, by the driver, in the order of files."""
    names = ("symbol", "price", "conditions", "trade_id", "sequence", "source")
    rows = [
        {
            **{name: row[name] for name in names},
            "volume": Decimal(str(row["volume"])),
            "event_time": row["event_time"].replace(tzinfo=timezone.utc),
            "received_at": row["received_at"].replace(tzinfo=timezone.utc),
        }
        for row in pipeline.rows("trades_silver")
    ]
    return sorted(rows, key=lambda r: (r["symbol"], r["event_time"], r["sequence"], r["trade_id"]))


def test_read_trades_gives_the_tape_in_its_order(finalized: Pipeline) -> None:
    table = read_trades(SYMBOLS, DAY, NEXT, keyspace=finalized.name)

    tape = Tape(TAPE, 100)
    sent = [trade for frame in tape.frames(0) for trade in frame.trades]
    in_order = [t for s in SYMBOLS for t in sorted(sent, key=lambda t: t["t"]) if t["s"] == s]
    got = table.to_pylist()
    assert [(r["price"], r["volume"], r["conditions"]) for r in got] == [
        (t["p"], t["v"], t["c"]) for t in in_order
    ]
    assert [str(f.type) for f in table.schema] == [
        *("string", "timestamp[ms, tz=UTC]", "double", "double", "list<item: string>"),
        *("int64", "int32", "string", "timestamp[ms, tz=UTC]"),
    ]
    assert {r["source"] for r in got} == {"replay"}
    assert len(got) == TRADES


def test_read_trades_keeps_to_its_times_and_adds_up_to_the_bars(finalized: Pipeline) -> None:
    """The window of 14:40 ends at its last trade, 14:40:00.900; 0.5 ms later is after it."""
    start = datetime(2024, 3, 15, 14, 40, 0, 500_000, tzinfo=timezone.utc)
    first = read_trades("TEST", start, start + timedelta(milliseconds=400), keyspace=finalized.name)
    after = read_trades(
        "TEST", start + timedelta(microseconds=400_500), NEXT, keyspace=finalized.name
    )
    every = read_trades("COIN:TESTUSD", DAY, NEXT, keyspace=finalized.name, exact=True)
    years = read_trades(
        "TEST", DAY - timedelta(days=4000), NEXT + timedelta(days=900), keyspace=finalized.name
    )
    twice = read_trades(["TEST", "COIN:TESTUSD", "TEST"], DAY, NEXT, keyspace=finalized.name)
    bars = read_bars(["TEST", "TEST"], "1d", DAY, NEXT, keyspace=finalized.name)
    nobody = read_trades("NOBODY", DAY, NEXT, keyspace=finalized.name, exact=True)

    assert first["price"].to_pylist() == [10.20, 99.00, 10.50, 50.00]
    assert after["price"].to_pylist() == [10.30]
    assert sum(every["volume"].to_pylist()) == Decimal("0.3")
    assert years.num_rows == TRADES - 2
    assert (twice.num_rows, bars.num_rows) == (TRADES, 1)
    assert (nobody.num_rows, nobody.schema) == (0, every.schema)


def test_exported_trades_equal_silver_row_for_row(finalized: Pipeline, tmp_path: Path) -> None:
    outcome = export(finalized, tmp_path, TRADES_ONLY)

    got = rows_of(tmp_path)
    assert got == silver(finalized)
    assert len(got) == TRADES == outcome.rows
    assert files_of(tmp_path) == FILES


def test_exported_bars_are_those_worked_by_hand(finalized: Pipeline, tmp_path: Path) -> None:
    export(finalized, tmp_path, BARS)

    expected = hand_bars(Interval.FIVE_MINUTES)
    got = {(r["symbol"], r["window_start"]): r for r in rows_of(tmp_path)}
    assert got.keys() == expected.keys()
    for key, bar in expected.items():
        assert {n: got[key][n] for n in bar if n != "notional"} == {
            n: v for n, v in bar.items() if n != "notional"
        }
    table = read_bars(sorted(SYMBOLS), "5m", DAY, NEXT, keyspace=finalized.name, exact=True)
    assert table.to_pylist() == rows_of(tmp_path)


@pytest.mark.parametrize("options", [BARS, TRADES_ONLY])
def test_a_finished_day_is_written_again_only_when_a_bar_was_revised(
    finalized: Pipeline, tmp_path: Path, options: ExportOptions
) -> None:
    first = export(finalized, tmp_path, options)
    second = export(finalized, tmp_path, options)
    finalized.revise_bar("TEST", DAY.replace(hour=14, minute=30))
    third = export(finalized, tmp_path, options)
    forced = export(finalized, tmp_path, replace(options, overwrite=True))

    assert [(o.files, o.kept, o.open_days) for o in (first, second, third, forced)] == [
        (2, 0, 0),
        (0, 2, 0),
        (1, 1, 0),
        (2, 0, 0),
    ]


def test_provisional_bars_are_left_out_unless_asked_for(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    final, every, trades = tmp_path / "final", tmp_path / "every", tmp_path / "trades"

    before = export(pipeline, final, BARS)
    provisional = export(pipeline, every, replace(BARS, provisional=True))
    export(pipeline, trades, TRADES_ONLY)
    unfinalized = export(pipeline, trades, TRADES_ONLY)
    pipeline.finalize()
    after = export(pipeline, final, BARS)

    assert (before.files, before.rows) == (0, 0)
    assert {r["is_final"] for r in rows_of(every)} == {False}
    assert provisional.open_days == provisional.files == 2
    assert (unfinalized.files, unfinalized.open_days, unfinalized.rows) == (2, 2, TRADES)
    assert after.rows == len(hand_bars(Interval.FIVE_MINUTES))
    assert {r["is_final"] for r in rows_of(final)} == {True}


def test_a_file_is_not_replaced_by_what_is_left_of_its_trades(
    finalized: Pipeline, tmp_path: Path
) -> None:
    export(finalized, tmp_path, TRADES_ONLY)
    before = rows_of(tmp_path)
    bucket = datetime(2024, 3, 15, 14, 35, tzinfo=timezone.utc)
    finalized.session.execute(
        "DELETE FROM trades_silver WHERE symbol = 'TEST' AND bucket = %s", (bucket,)
    )

    again = export(finalized, tmp_path, replace(TRADES_ONLY, overwrite=True))
    elsewhere = export(finalized, tmp_path / "elsewhere", TRADES_ONLY)

    path = "date=2024-03-15/TEST.parquet"
    assert (again.files, again.kept, again.fragments) == (1, 1, [path])
    assert rows_of(tmp_path) == before
    found = (elsewhere.files, elsewhere.rows, elsewhere.fragments)
    assert found == (2, TRADES - 1, [path])


@pytest.mark.parametrize("file_format", [f for f in ExportFormat if f is not ExportFormat.DELTA])
def test_late_trades_do_not_make_up_for_trades_that_have_expired(
    finalized: Pipeline, tmp_path: Path, file_format: ExportFormat
) -> None:
    """Silver has lost the one trade of 14:35, and got two at 15:00."""
    options = replace(TRADES_ONLY, file_format=file_format)
    path = f"date=2024-03-15/TEST.{file_format.value}"
    export(finalized, tmp_path / "old", options)
    before = (tmp_path / "old" / path).read_bytes()
    late = tmp_path / "late.csv"
    late.write_text(
        "event_time_ms,symbol,price,volume,conditions\n"
        "1710514800000,TEST,10.2,1,1\n1710514800001,TEST,10.3,1,1\n"
    )
    finalized.send_tape(late)
    finalized.ingest()
    finalized.finalize()
    bucket = DAY.replace(hour=14, minute=35)
    finalized.session.execute(
        "DELETE FROM trades_silver WHERE symbol = 'TEST' AND bucket = %s", (bucket,)
    )

    again = export(finalized, tmp_path / "old", options)
    fresh = export(finalized, tmp_path / "new", options)

    assert (again.files, again.kept, again.fragments) == (0, 2, [path])
    assert (tmp_path / "old" / path).read_bytes() == before
    assert (fresh.files, fresh.rows, fresh.fragments) == (2, TRADES + 1, [path])


@pytest.mark.parametrize("file_format", [f for f in ExportFormat if f is not ExportFormat.DELTA])
def test_a_longer_bar_is_not_replaced_by_what_is_left_of_its_parts(
    finalized: Pipeline, tmp_path: Path, file_format: ExportFormat
) -> None:
    """Of 14:30 to 14:45 the first five minutes have expired; the bar of 16:30 is revised."""
    options = replace(BARS, interval=ReadInterval.parse("15m"), file_format=file_format)
    path = f"date=2024-03-15/TEST.{file_format.value}"
    schema = bars_schema(exact=True)
    export(finalized, tmp_path, options)
    first, last = read_file(tmp_path / path, schema, file_format).to_pylist()
    finalized.forget_bar("TEST", DAY.replace(hour=14, minute=30))
    finalized.revise_bar("TEST", DAY.replace(hour=16, minute=30), high=77.5)

    again = export(finalized, tmp_path, options)
    third = export(finalized, tmp_path, replace(options, overwrite=True))

    assert (again.files, again.kept, again.fragments) == (1, 1, [path])
    assert third.fragments == [path]
    assert (first["trade_count"], first["open"], first["revision"]) == (14, 10.0, 1)
    revised = {**last, "high": 77.5, "revision": 2}
    assert read_file(tmp_path / path, schema, file_format).to_pylist() == [first, revised]


def test_where_gold_forgets_a_revised_part_is_no_whole_bar(
    finalized: Pipeline, tmp_path: Path
) -> None:
    finalized.session.execute("ALTER TABLE trades_gold_5m WITH default_time_to_live = 86400")
    wait_for(lambda: finalized.client.lifetimes()["trades_gold_5m"] == timedelta(days=1))
    quarters = replace(BARS, interval=ReadInterval.parse("15m"))
    export(finalized, tmp_path, quarters)
    before = rows_of(tmp_path)
    finalized.forget_bar("TEST", DAY.replace(hour=14, minute=30))
    finalized.revise_bar("TEST", DAY.replace(hour=14, minute=40), high=77.5)

    again = export(finalized, tmp_path, quarters)

    assert (again.files, again.fragments) == (0, ["date=2024-03-15/TEST.parquet"])
    assert rows_of(tmp_path) == before


def test_longer_bars_that_are_provisional_again_stay_and_are_not_lost(
    finalized: Pipeline, tmp_path: Path
) -> None:
    """Another topic may bring trades to any time, until it is finalized so far."""
    quarters = replace(BARS, interval=ReadInterval.parse("15m"))
    export(finalized, tmp_path, quarters)
    before = rows_of(tmp_path)
    finalized.client.write_topic_state("another", TopicState.MOVING, finalized.now)

    again = export(finalized, tmp_path, quarters)

    assert (again.files, again.kept, again.fragments) == (0, 2, [])
    assert rows_of(tmp_path) == before


def test_symbols_and_days_are_those_asked_for(finalized: Pipeline, tmp_path: Path) -> None:
    only = replace(BARS, symbols=frozenset({"TEST"}))
    day = date(2024, 3, 15)

    assert export(finalized, tmp_path / "a", only).files == 1
    assert export(finalized, tmp_path / "b", replace(only, first=day, stop=date(2024, 3, 16))).files
    assert export(finalized, tmp_path / "c", replace(only, stop=day)).files == 0
    assert export(finalized, tmp_path / "d", replace(only, first=date(2024, 3, 16))).files == 0
    assert files_of(tmp_path / "b") == ["TEST.parquet"]


def test_days_of_hours_are_found_in_their_year(finalized: Pipeline, tmp_path: Path) -> None:
    hourly = replace(BARS, interval=ReadInterval.parse("1h"))
    export(finalized, tmp_path, hourly)
    assert {(r["symbol"], r["window_start"]) for r in rows_of(tmp_path)} == hand_bars(
        Interval.ONE_HOUR
    ).keys()
