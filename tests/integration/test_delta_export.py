"""A Delta table of bars made from a real Cassandra: one version a run, each bar once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from rich.console import Console
from rich.progress import Progress

from tapeline.export.content import ExportOptions
from tapeline.export.delta_job import run_delta_export
from tapeline.export.files import ExportFormat
from tapeline.export.job import ExportResult
from tapeline.model.bar import Interval
from tapeline.model.errors import UsageError
from tapeline.model.read_interval import ReadInterval
from tests.hand import TAPE, hand_bars
from tests.pipeline import Pipeline
from tests.sample import export_options

OPTIONS = export_options(file_format=ExportFormat.DELTA)
KEY = ("TEST", datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc))
EXPECTED = hand_bars(Interval.FIVE_MINUTES)


@pytest.fixture
def finalized(pipeline: Pipeline) -> Pipeline:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.finalize()
    return pipeline


def export(pipeline: Pipeline, folder: Path, options: ExportOptions = OPTIONS) -> ExportResult:
    progress = Progress(console=Console(stderr=True))
    return run_delta_export(pipeline.client, folder, options, progress)


def highs(folder: Path, version: int) -> list[tuple[int, float]]:
    """What DuckDB finds of the revised bar in a version."""
    table = DeltaTable(folder, version=version).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        bars = connection.from_arrow(table).filter("symbol = 'TEST'")
        at = int(KEY[1].timestamp() * 1000)
        return bars.filter(f"epoch_ms(window_start) = {at}").project("revision, high").fetchall()


def test_the_table_has_the_bars_worked_by_hand(finalized: Pipeline, tmp_path: Path) -> None:
    outcome = export(finalized, tmp_path)

    rows = pl.read_delta(str(tmp_path)).to_dicts()
    got = {(r["symbol"], r["window_start"]): r for r in rows}
    assert (outcome.version, outcome.files, outcome.rows) == (0, 1, len(EXPECTED))
    assert len(rows) == len(EXPECTED)
    assert got.keys() == EXPECTED.keys()
    for key, bar in EXPECTED.items():
        assert {n: got[key][n] for n in bar if n != "notional"} == {
            n: v for n, v in bar.items() if n != "notional"
        }


def test_a_revised_bar_is_a_new_version_and_nothing_new_is_none(
    finalized: Pipeline, tmp_path: Path
) -> None:
    export(finalized, tmp_path)
    again = export(finalized, tmp_path)
    finalized.revise_bar(*KEY, high=77.5)
    third = export(finalized, tmp_path)
    forced = export(finalized, tmp_path, replace(OPTIONS, overwrite=True))

    of_test = sum(symbol == "TEST" for symbol, _ in EXPECTED)
    outcomes = [(o.version, o.files, o.rows, o.kept) for o in (again, third, forced)]
    assert outcomes == [(0, 0, 0, 1), (1, 1, of_test, 0), (2, 1, len(EXPECTED), 0)]
    assert highs(tmp_path, 0) == [(1, EXPECTED[KEY]["high"])]
    assert highs(tmp_path, 1) == highs(tmp_path, 2) == [(2, 77.5)]
    assert DeltaTable(tmp_path).count() == len(EXPECTED)


def test_symbols_may_come_one_after_the_other(finalized: Pipeline, tmp_path: Path) -> None:
    for symbol in ("TEST", "COIN:TESTUSD"):
        export(finalized, tmp_path, replace(OPTIONS, symbols=frozenset({symbol})))
    later = export(finalized, tmp_path)

    assert (later.version, later.files) == (1, 0)
    assert DeltaTable(tmp_path).count() == len(EXPECTED)


def test_the_table_keeps_what_has_expired_from_gold(finalized: Pipeline, tmp_path: Path) -> None:
    export(finalized, tmp_path)
    finalized.forget_bar(*KEY)
    after = export(finalized, tmp_path)

    assert (after.version, after.files, after.fragments) == (0, 0, ["2024-03-15 TEST"])
    assert highs(tmp_path, 0) == [(1, EXPECTED[KEY]["high"])]


def test_a_longer_bar_is_not_replaced_by_what_is_left_of_its_parts(
    finalized: Pipeline, tmp_path: Path
) -> None:
    """Of 14:30 to 14:45 the first five minutes have expired; the bar of 16:30 is revised."""
    quarters = replace(OPTIONS, interval=ReadInterval.parse("15m"))
    export(finalized, tmp_path, quarters)
    finalized.forget_bar(*KEY)
    finalized.revise_bar("TEST", KEY[1].replace(hour=16), high=77.5)
    after = export(finalized, tmp_path, quarters)
    third = export(finalized, tmp_path, quarters)

    assert (after.version, after.files, after.fragments) == (1, 1, ["2024-03-15 TEST"])
    assert (third.version, third.files, third.fragments) == (1, 0, ["2024-03-15 TEST"])
    found = pl.read_delta(str(tmp_path)).filter(symbol="TEST").sort("window_start")
    assert found.select("trade_count", "open", "high", "revision").rows() == [
        (14, 10.0, 10.5, 1),
        (1, 10.3, 77.5, 2),
    ]
    assert highs(tmp_path, 0) == [(1, 10.5)]


def test_another_length_of_bars_is_refused(finalized: Pipeline, tmp_path: Path) -> None:
    export(finalized, tmp_path)
    hourly = replace(OPTIONS, interval=ReadInterval.parse("1h"))
    with pytest.raises(UsageError, match="holds an export of interval 5m and not 1h"):
        export(finalized, tmp_path, hourly)


def test_a_day_that_is_not_finalized_comes_when_it_is(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()
    every = replace(OPTIONS, provisional=True)
    nothing = export(pipeline, tmp_path / "final")
    provisional = export(pipeline, tmp_path / "every", every)
    pipeline.finalize()
    final = export(pipeline, tmp_path / "every", every)

    assert (nothing.version, nothing.files, nothing.kept) == (None, 0, 0)
    assert (provisional.version, provisional.open_days) == (0, 1)
    assert (final.version, final.open_days) == (1, 0)
    assert set(pl.read_delta(str(tmp_path / "every"))["is_final"]) == {True}
