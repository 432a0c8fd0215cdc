"""A Delta table of bars: versions that replace days whole, read as others read them."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tapeline.cli.app import main
from tapeline.cli.export import summary
from tapeline.export.delta_table import BarsTable, delta_schema
from tapeline.export.files import ExportFormat
from tapeline.export.job import ExportResult
from tapeline.export.record import RECORD_NAME
from tapeline.model.errors import UsageError
from tapeline.read.bars import bars_table
from tests.sample import a_bar, export_options

SCHEMA = delta_schema(exact=True, detail=False)
OPTIONS = export_options(file_format=ExportFormat.DELTA)
FRIDAY, MONDAY = date(2026, 11, 20), date(2026, 11, 23)


def at(day: date, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, 14, minute, tzinfo=timezone.utc)


def bars(*several: dict[str, Any]) -> pa.Table:
    return bars_table([a_bar(**fields) for fields in several], exact=True).cast(SCHEMA)


FIRST = bars(
    {"symbol": "AAPL", "window_start": at(FRIDAY, 30), "volume": Decimal("0.1")},
    {"symbol": "BRK/B", "window_start": at(FRIDAY, 30), "volume": Decimal(2)},
    {"symbol": "BRK/B", "window_start": at(FRIDAY, 35), "volume": Decimal(3)},
)
REVISED = bars({"symbol": "BRK/B", "window_start": at(FRIDAY, 35), "volume": Decimal(4)})
NEXT = bars({"symbol": "AAPL", "window_start": at(MONDAY, 30), "volume": Decimal(5)})


@pytest.fixture
def table(tmp_path: Path) -> BarsTable:
    (tmp_path / RECORD_NAME).touch()
    table = BarsTable(tmp_path, SCHEMA)
    table.stage(FRIDAY, FIRST)
    table.commit()
    return table


def volumes(folder: Path, version: int | None = None) -> list[tuple[str, str, Decimal]]:
    """What DuckDB reads of a version."""
    dataset = DeltaTable(folder, version=version).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        relation = connection.from_arrow(dataset)
        found = relation.project("symbol, epoch_ms(window_start), volume").fetchall()
    return sorted((symbol, f"{utc(ms):%d %H:%M}", volume) for symbol, ms, volume in found)


def utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, timezone.utc)


def test_a_version_replaces_its_days_and_the_one_before_stays_readable(table, tmp_path):
    table.stage(FRIDAY, pa.concat_tables([FIRST.slice(0, 2), REVISED]))
    table.stage(MONDAY, NEXT)
    table.commit()

    assert table.version() == 1
    assert volumes(tmp_path) == [
        ("AAPL", "20 14:30", Decimal("0.1")),
        ("AAPL", "23 14:30", Decimal(5)),
        ("BRK/B", "20 14:30", Decimal(2)),
        ("BRK/B", "20 14:35", Decimal(4)),
    ]
    assert volumes(tmp_path, version=0) == [
        ("AAPL", "20 14:30", Decimal("0.1")),
        ("BRK/B", "20 14:30", Decimal(2)),
        ("BRK/B", "20 14:35", Decimal(3)),
    ]


def test_polars_reads_the_same_with_the_day_as_a_column(table, tmp_path):
    frame = pl.scan_delta(str(tmp_path)).filter(pl.col("date") == FRIDAY).collect()
    assert frame["symbol"].to_list() == ["AAPL", "BRK/B", "BRK/B"]
    assert frame["window_start"].to_list() == [at(FRIDAY, 30), at(FRIDAY, 30), at(FRIDAY, 35)]
    assert table.version() == 0


def test_nothing_staged_is_no_version(table, tmp_path):
    table.commit()
    assert BarsTable(tmp_path, SCHEMA).version() == 0


def test_a_day_comes_back_by_symbol_as_it_was_written(table):
    assert table.bars(FRIDAY) == {"AAPL": FIRST.slice(0, 1), "BRK/B": FIRST.slice(1, 2)}
    assert table.bars(MONDAY) == {}


def test_what_a_kill_left_staged_is_no_part_of_the_table_and_is_cleaned_away(table, tmp_path):
    table.stage(MONDAY, NEXT)
    before = {path.name for path in tmp_path.iterdir()}

    after = BarsTable(tmp_path, SCHEMA)

    assert after.version() == 0
    assert after.bars(MONDAY) == {}
    assert before - {path.name for path in tmp_path.iterdir()} == {".tapeline-export.staged"}


def test_the_owner_may_compact_and_vacuum_the_table(table, tmp_path):
    table.stage(MONDAY, NEXT)
    table.commit()
    owner = DeltaTable(tmp_path)
    owner.optimize.z_order(["window_start"])
    owner.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    after = BarsTable(tmp_path, SCHEMA)
    assert after.bars(FRIDAY) == {"AAPL": FIRST.slice(0, 1), "BRK/B": FIRST.slice(1, 2)}
    assert after.bars(MONDAY) == {"AAPL": NEXT}


def test_a_change_by_another_program_meanwhile_is_said_and_nothing_is_overwritten(table, tmp_path):
    DeltaTable(tmp_path).delete("symbol = 'AAPL'")
    left = volumes(tmp_path)
    table.stage(FRIDAY, FIRST)

    with pytest.raises(UsageError, match="meanwhile: run it again"):
        table.commit()

    assert volumes(tmp_path) == left


def test_versions_are_kept_for_as_long_as_the_owner_wants(table, tmp_path):
    log = (tmp_path / "_delta_log" / f"{0:020}.json").read_text(encoding="utf-8")
    [metadata] = [a["metaData"] for a in map(json.loads, log.splitlines()) if "metaData" in a]
    assert metadata["configuration"] == {"delta.enableExpiredLogCleanup": "false"}
    assert metadata["partitionColumns"] == ["date"]
    assert table.version() == 0


def test_other_tables_are_refused_in_words(tmp_path):
    write_deltalake(tmp_path, pa.table({"a": [1]}))

    with pytest.raises(UsageError, match="a Delta table that no export of ours wrote"):
        BarsTable.require_ours(tmp_path)
    with pytest.raises(UsageError, match="has other columns: choose another folder"):
        BarsTable(tmp_path, SCHEMA)
    for part in (tmp_path / "_delta_log").iterdir():
        part.write_bytes(b"{")
    with pytest.raises(UsageError, match="cannot be read"):
        BarsTable(tmp_path, SCHEMA)


def test_without_the_package_the_command_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    for name in ("tapeline.export.delta_job", "tapeline.export.delta_table"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    folder = tmp_path / "bars"
    command = ["tapeline", "export", "bars", "--format", "delta", "-o", str(folder)]
    monkeypatch.setattr(sys, "argv", command)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "pip install 'tapeline[lake]'" in capsys.readouterr().err
    assert not folder.exists()


def test_the_end_says_which_version_has_what():
    outcome = ExportResult(
        files=2, rows=1_234, kept=400, open_days=1, version=7, fragments=["2026-11-20 AAPL"]
    )
    first, unfinalized, warning = summary(outcome, Path("lake"), OPTIONS)
    assert first == (
        "lake: version 7 adds or replaces 1,234 rows in 2 days, and has 400 as they were."
    )
    assert unfinalized == "1 of these days is not finalized; run it again for the rest."
    assert "gold no longer has all bars of 1 day of a symbol" in warning
    assert "those that were written before stay as they are" in warning
    assert warning.endswith(": 2026-11-20 AAPL.")
    assert summary(ExportResult(kept=3, version=0), Path("lake"), OPTIONS) == [
        "lake: version 0 has all of it already."
    ]
