"""`tapeline export` and `status` as a user runs them, on trades from a file of one's own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tapeline import read_bars, read_trades
from tapeline.local.discovery import Endpoints
from tapeline.model.bar import Bar, Interval
from tapeline.program.settings import load_settings
from tapeline.storage.cassandra_client import CassandraClient
from tests.commands import TIMEOUT_S, fail, run, start_in_background, wait_for
from tests.hand import TAPE, TRADES, hand_bars
from tests.sample import a_bar

DAY = datetime(2024, 3, 15, tzinfo=timezone.utc)
NEXT = DAY + timedelta(days=1)
MANY = "many_days"
SYMBOLS = ("BINANCE:BTCUSDT", "BRK/B")
DAYS = 400


@pytest.fixture(scope="module")
def backfilled(stack: Endpoints) -> Endpoints:
    """The tape worked by hand, brought into the keyspace of live trades."""
    run("replay", str(TAPE), "--policy", "sip", "--into", "market_data")
    return stack


@pytest.mark.usefixtures("backfilled")
def test_a_backfill_lands_in_market_data_and_every_trade_says_so() -> None:
    trades = read_trades(["TEST", "COIN:TESTUSD"], DAY, NEXT)
    bars = read_bars(["TEST", "COIN:TESTUSD"], "5m", DAY, NEXT, exact=True)

    assert trades.num_rows == TRADES
    assert set(trades["source"].to_pylist()) == {"replay"}
    expected = hand_bars(Interval.FIVE_MINUTES)
    assert {(r["symbol"], r["window_start"]): r["volume"] for r in bars.to_pylist()} == {
        key: bar["volume"] for key, bar in expected.items()
    }
    assert set(bars["is_final"].to_pylist()) == {True}


@pytest.mark.usefixtures("backfilled")
def test_exports_are_what_python_reads_and_a_rerun_leaves_them(tmp_path: Path) -> None:
    folder = tmp_path / "trades"
    first = run("export", "trades", "-o", str(folder), merge=False)
    again = run("export", "trades", "-o", str(folder), merge=False)
    run("export", "bars", "--format", "csv", "-o", str(tmp_path / "bars"))
    run("export", "bars", "--interval", "1h", "--symbols", "TEST", "-o", str(tmp_path / "hours"))

    assert first == f"{folder}: wrote 2 files with 17 rows, left 0 as they were.\n"
    assert again == f"{folder}: wrote 0 files with 0 rows, left 2 as they were.\n"
    file = folder / "date=2024-03-15" / "COIN%3ATESTUSD.parquet"
    read = read_trades("COIN:TESTUSD", DAY, NEXT)
    assert pq.ParquetFile(file).read().equals(read)
    frame = pl.scan_parquet(folder / "*/*.parquet", hive_partitioning=True).collect()
    assert frame.height == TRADES
    assert frame["date"].unique().to_list() == [DAY.date()]
    assert set(frame["source"].to_list()) == {"replay"}
    csv = pacsv.read_csv(tmp_path / "bars" / "date=2024-03-15" / "TEST.csv")
    assert csv["close"].to_pylist() == [10.02, None, 10.2, 10.3]
    hours = pl.scan_parquet(tmp_path / "hours" / "*/*.parquet").collect()
    assert hours["volume"].to_list() == [665.0, 100.0]


@pytest.mark.usefixtures("backfilled")
def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path) -> None:
    folder = str(tmp_path / "bars")
    run("export", "bars", "-o", folder)
    code, other = fail("export", "bars", "--interval", "1h", "-o", folder)
    none, nothing = fail("export", "bars", "--symbols", "NOBODY", "-o", str(tmp_path / "none"))

    assert (code, none) == (2, 2)
    assert "holds an export of interval 5m and not 1h: choose another folder." in other
    assert "There is no trade and no bar of NOBODY in keyspace market_data; it has" in nothing
    assert not (tmp_path / "none").exists()
    later = fail("export", "bars", "--from", "2030-01-01", "-o", str(tmp_path / "none"))
    assert later[0] == 2
    assert "There are no final bars to write for these symbols and days." in later[1]


def a_day(symbol: str, index: int) -> list[Bar]:
    begin = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(days=index)
    return [
        a_bar(
            symbol=symbol,
            window_start=begin + timedelta(minutes=5 * n),
            volume=Decimal(index + n),
            is_final=True,
            revision=1,
        )
        for n in range(24)
    ]


@pytest.fixture(scope="module")
def many_days(stack: Endpoints) -> int:
    """Final bars of many days; returns how many."""
    settings = load_settings().with_target(keyspace=MANY)
    client = CassandraClient(settings.cassandra, stack.cassandra_host, stack.cassandra_port)
    client.create_schema()
    bars = [b for s in SYMBOLS for index in range(DAYS) for b in a_day(s, index)]
    client.write_bars(Interval.FIVE_MINUTES, [(bar, 1) for bar in bars])
    client.close()
    return len(bars)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_whole_files_and_goes_on(
    many_days: int, tmp_path: Path, end: signal.Signals
) -> None:
    command = ("export", "bars", "--keyspace", MANY, "--exact", "-o", str(tmp_path))
    process = start_in_background(*command)
    wait_for(lambda: len(list(tmp_path.glob("*/*.parquet"))) >= 20)
    process.send_signal(end)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.parquet")}
    whole = {path: pq.ParquetFile(path).read().num_rows for path in done}

    summary = run(*command, merge=False)

    assert process.returncode == (-signal.SIGKILL if end == signal.SIGKILL else 130)
    assert ("The same command goes on where it was." in output) == (end != signal.SIGKILL)
    assert 20 <= len(done) < DAYS * len(SYMBOLS)
    assert set(whole.values()) == {24}
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.parquet")}
    untouched = [path for path, at in done.items() if after[path] == at]
    # A kill may come between a file and the record of it, which is then written again.
    assert len(untouched) >= len(done) - 1
    assert f"wrote {DAYS * len(SYMBOLS) - len(untouched)} files" in summary
    first = datetime(2025, 1, 1, tzinfo=timezone.utc)
    last = first + timedelta(days=DAYS)
    read = read_bars(SYMBOLS, "5m", first, last, keyspace=MANY, exact=True)
    rows = [row for path in after for row in pq.ParquetFile(path).read().to_pylist()]
    key = ("symbol", "window_start")
    assert sorted(rows, key=lambda r: [r[k] for k in key]) == read.to_pylist()
    assert len(rows) == many_days
    assert list(tmp_path.glob("*/.*")) == []


def in_table(folder: Path) -> list[tuple[str, int, Decimal]]:
    """What DuckDB reads of the newest version of a Delta table, in order."""
    dataset = DeltaTable(folder).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        found = connection.from_arrow(dataset).project("symbol, epoch_ms(window_start), volume")
        return sorted(found.fetchall())


def of_days(symbols: Sequence[str], days: int) -> list[tuple[str, int, Decimal]]:
    """What gold has of the first days, by what was put there."""
    bars = [bar for s in symbols for index in range(days) for bar in a_day(s, index)]
    return sorted((b.symbol, int(b.window_start.timestamp() * 1000), b.volume) for b in bars)


@pytest.mark.parametrize(
    ("seen", "end"),
    [
        (".tapeline-export.staged/2025-02-02.parquet", signal.SIGTERM),
        ("date=2025-03-15", signal.SIGKILL),
    ],
)
def test_a_delta_export_that_is_stopped_leaves_one_whole_version_and_goes_on(
    many_days: int, tmp_path: Path, end: signal.Signals, seen: str
) -> None:
    """Stopped amid its days, or once their files move to where the commit will name them."""
    command = ("export", "bars", "--keyspace", MANY, "--exact", "--format", "delta")
    folder = tmp_path / "bars"
    run(*command, "--to", "2025-02-01", "-o", str(folder))
    january, everything = of_days(SYMBOLS, 31), of_days(SYMBOLS, DAYS)
    assert in_table(folder) == january

    process = start_in_background(*command, "-o", str(folder))
    deadline = time.monotonic() + TIMEOUT_S
    while not (folder / seen).exists() and time.monotonic() < deadline:
        time.sleep(0.0005)
    process.send_signal(end)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    version, left = DeltaTable(folder).version(), in_table(folder)
    again, third = (run(*command, "-o", str(folder), merge=False) for _ in range(2))

    # The commit may have been faster than the signal.
    assert (version, left) in [(0, january), (1, everything)]
    assert version == 0 or seen.startswith("date=")
    stopped = "The table has all of this run as a new version, or nothing of it: the same command"
    assert (stopped in output) == (process.returncode == 130)
    assert ("version 1 has all of it already" in again) == (version == 1)
    assert third == f"{folder}: version 1 has all of it already.\n"
    assert in_table(folder) == everything
    assert len(everything) == many_days
    assert list((folder / ".tapeline-export.staged").glob("*")) == []


@pytest.mark.usefixtures("backfilled")
def test_status_is_healthy_after_a_backfill_and_not_without_a_producer() -> None:
    options = ("status", "--topic", "replay_market_data")
    healthy = run(*options)
    state = json.loads(run(*options, "--format", "json", merge=False))
    code, ill = fail("status", "--topic", "no_such_topic")

    assert healthy.splitlines()[-1] == "Healthy."
    assert "Feed        a tape, which has ended" in healthy
    assert "Unread      0 of 17 messages are not in silver yet" in healthy
    assert (state["healthy"], state["problems"]) == (True, [])
    assert state["flow"]["newest_trade"] == "2024-03-15T16:30:00Z"
    assert [s["name"] for s in state["services"]] == ["kafka", "cassandra"]
    assert code == 1
    assert "Problem: There is no topic no_such_topic: create it with" in ill
