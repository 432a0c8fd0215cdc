"""Tick, volume and dollar bars and bars adjusted for splits, from a real Cassandra.

The values are of the hand-worked tape, see tests/unit/test_threshold_fold.py.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rich.progress import Progress

from tapeline import read_bars
from tapeline.export.content import ExportOptions
from tapeline.export.job import ExportResult, run_export
from tapeline.model.bar import Interval
from tapeline.model.errors import ExpiredError, UsageError
from tapeline.model.gap import Gap, GapKind
from tapeline.model.splits import NO_SPLITS
from tapeline.model.threshold import parse_length
from tapeline.model.times import to_micros
from tapeline.program.rule_file import read_policy
from tapeline.program.split_file import read_splits
from tests.commands import run
from tests.hand import TAPE
from tests.pipeline import Pipeline
from tests.rule_files import ROUND_LOTS
from tests.sample import export_options

DAY = datetime(2024, 3, 15, tzinfo=timezone.utc)
NEXT = DAY + timedelta(days=1)
FIVE_TICKS = [
    (10.00, 10.05, 9.90, 9.90, 300, 3008.5, 5),
    (9.95, 10.20, 9.95, 10.20, 335, 3358, 5),
    (10.30, 10.50, 10.30, 10.30, 130, 1821, 5),
]
FINAL = (True, 1, True)
PROVISIONAL = (False, 0, None)


@pytest.fixture
def ingested(pipeline: Pipeline) -> Pipeline:
    pipeline.client.claim_policy(pipeline.settings.stream.policy)
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    return pipeline


@pytest.fixture
def finalized(ingested: Pipeline) -> Pipeline:
    ingested.finalize()
    return ingested


def read(
    pipeline: Pipeline, interval: str, start: datetime = DAY, end: datetime = NEXT, **options: Any
) -> list[dict[str, Any]]:
    table = read_bars("TEST", interval, start, end, keyspace=pipeline.name, detail=True, **options)
    return table.to_pylist()


def values(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("open", "high", "low", "close", "volume", "notional", "trade_count")
    return [tuple(row[name] for name in names) for row in rows]


def states(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["is_final"], row["revision"], row["is_complete"]) for row in rows]


def late_tape(folder: Path, at: str, price: float) -> Path:
    path = folder / "late.csv"
    ms = int(datetime.fromisoformat(at).replace(tzinfo=timezone.utc).timestamp() * 1000)
    head = "event_time_ms,symbol,price,volume,conditions"
    path.write_text(f"{head}\n{ms},TEST,{price},10,1\n", encoding="utf-8")
    return path


def test_tick_volume_and_dollar_bars_of_the_hand_worked_tape(finalized: Pipeline) -> None:
    ticks = read(finalized, "5tick")
    assert values(ticks) == FIVE_TICKS
    assert [r["trade_count"] for r in read(finalized, "200volume")] == [2, 4, 9]
    assert [r["trade_count"] for r in read(finalized, "3000dollar")] == [5, 3, 7]

    assert states(ticks) == [FINAL] * 3
    assert {(r["session"], r["policy"], r["asset_class"]) for r in ticks} == {
        ("regular", "sip", "equity")
    }
    assert (ticks[0]["window_start"], ticks[0]["window_end"]) == (
        datetime(2024, 3, 15, 14, 30, 0, 100_000, timezone.utc),
        datetime(2024, 3, 15, 14, 30, 0, 250_000, timezone.utc),
    )


def test_what_is_asked_for_does_not_move_the_bars(finalized: Pipeline) -> None:
    whole = read(finalized, "5tick")
    for start in [row["window_start"] for row in whole]:
        for end in (start + timedelta(microseconds=1), NEXT + timedelta(days=400)):
            expected = [row for row in whole if start <= row["window_start"] < end]
            assert read(finalized, "5tick", start, end) == expected
    assert read(finalized, "5tick", session="regular") == whole
    assert read(finalized, "5tick", session="pre") == []
    assert read(finalized, "5tick", NEXT, DAY) == []


def test_bars_are_provisional_until_their_windows_are_final(ingested: Pipeline) -> None:
    assert read(ingested, "5tick") == []  # as of all bars, before gold has something
    ingested.preview()
    found = read(ingested, "5tick")
    assert values(found) == FIVE_TICKS
    assert states(found) == [PROVISIONAL] * 3

    ingested.finalize()
    assert states(read(ingested, "5tick")) == [FINAL] * 3


def test_what_is_not_filled_is_final_with_its_session_only(finalized: Pipeline) -> None:
    """Regular hours end at 20:00 UTC that day, and the ended tape's day is over."""
    rest = read(finalized, "4tick")[-1]
    assert (rest["trade_count"], states([rest])) == (3, [FINAL])

    until = datetime(2024, 3, 15, 19, 59, tzinfo=timezone.utc)
    topic = finalized.client.session
    topic.execute(
        f"UPDATE {finalized.name}.ingest_progress USING TIMESTAMP {2**60} SET final_until = %s "
        "WHERE topic_id = %s",
        (until, finalized.topic_id),
    )
    assert states(read(finalized, "4tick")) == [FINAL] * 3 + [PROVISIONAL]
    assert states(read(finalized, "5tick")) == [FINAL] * 3


def test_a_late_trade_revises_the_bars_from_its_own_on(finalized: Pipeline, tmp_path: Path) -> None:
    finalized.send_tape(late_tape(tmp_path, "2024-03-15T14:36:00", 9.99))
    finalized.ingest()
    # Silver has it, and no final bar: what stands behind it may not be called final.
    assert states(read(finalized, "5tick")) == [FINAL, *[PROVISIONAL] * 3]

    finalized.finalize()
    found = read(finalized, "5tick")
    assert values(found)[:2] == [FIVE_TICKS[0], (9.95, 10.10, 9.95, 10.10, 315, 3151.9, 5)]
    assert [row["revision"] for row in found] == [1, 2, 2, 2]
    assert [row["reason"] for row in found] == [None, *["late_trade"] * 3]


def test_a_late_trade_in_an_empty_window_leaves_nothing_final_behind_it(
    finalized: Pipeline, tmp_path: Path
) -> None:
    """Nobody traded at 14:50, which was finalized with that; only silver knows of the trade."""
    finalized.send_tape(late_tape(tmp_path, "2024-03-15T14:50:00", 10.40))
    finalized.ingest()
    late = [(10.40, 10.50, 10.40, 10.40, 40, 895, 5), (10.30, 10.30, 10.30, 10.30, 100, 1030, 1)]
    found = read(finalized, "5tick")
    assert values(found) == [*FIVE_TICKS[:2], *late]
    assert states(found) == [FINAL, FINAL, PROVISIONAL, PROVISIONAL]

    finalized.finalize()
    found = read(finalized, "5tick")
    assert values(found) == [*FIVE_TICKS[:2], *late]
    assert [row["revision"] for row in found] == [1, 1, 2, 2]  # 0 would be provisional


@pytest.mark.parametrize(
    ("at", "expected"),
    [("13:45", [False] * 4), ("19:59", [True, True, True, False])],
    ids=["before all others", "after all others"],
)
def test_a_late_trade_before_or_after_all_others_of_a_session(
    finalized: Pipeline, tmp_path: Path, at: str, expected: list[bool]
) -> None:
    """Regular hours last from 13:30 to 20:00 UTC that day; the fourth bar is not filled."""
    finalized.send_tape(late_tape(tmp_path, f"2024-03-15T{at}:00", 10.40))
    finalized.ingest()
    assert [row["is_final"] for row in read(finalized, "5tick")] == expected


def test_after_a_gap_no_bar_of_the_session_is_complete(finalized: Pipeline) -> None:
    """Bars after it might be cut elsewhere; those of the window before it are what they were."""
    start = datetime(2024, 3, 15, 14, 50, tzinfo=timezone.utc)
    span = to_micros(start), to_micros(start + timedelta(minutes=1))
    gap = Gap("p", "t", "id", GapKind.SILENT, ("TEST",), *span, span[1])
    finalized.client.write_gaps([gap])
    # In the gap there is no stored bar: nobody knows whether a trade is lacking.
    assert states(read(finalized, "5tick")) == [FINAL, FINAL, (True, 1, None)]

    bars = finalized.client.bars("TEST", Interval.FIVE_MINUTES, DAY, NEXT)
    second = list(bars)[1]
    known = replace(second, is_complete=False, revision=2, reason="feed_gap")
    finalized.client.write_final_bars(Interval.FIVE_MINUTES, [(known, 2**60)])
    assert states(read(finalized, "5tick")) == [FINAL, *[(True, 2, False)] * 2]


def test_trades_that_have_expired_are_never_left_out_in_silence(finalized: Pipeline) -> None:
    finalized.client.session.execute(
        f"DELETE FROM {finalized.name}.trades_silver WHERE symbol = 'TEST' AND bucket = "
        "'2024-03-15T14:40:00Z' AND event_time = '2024-03-15T14:40:00.500Z'"
    )
    with pytest.raises(ExpiredError, match=r"5 of the 6 trades of TEST from 2024-03-15T14:40:00Z"):
        read(finalized, "5tick")


def test_bars_of_a_file_of_rules_need_the_file(finalized: Pipeline) -> None:
    rules = read_policy(str(ROUND_LOTS))
    finalized.client.write_policy(rules)
    with pytest.raises(UsageError, match="name their file with TAPELINE_STREAM__POLICY"):
        read(finalized, "5tick")

    stream = finalized.settings.stream.model_copy(update={"policy": rules})
    settings = finalized.settings.model_copy(update={"stream": stream})
    found = read(finalized, "200volume", settings=settings)
    assert {row["policy"] for row in found} == {rules.name}
    assert (found[0]["open"], found[0]["close"], found[0]["volume"]) == (10.0, 10.0, 200)


def splits_of(folder: Path, *lines: str) -> Path:
    path = folder / "splits.csv"
    path.write_text("\n".join(["symbol,effective,factor", *lines]), encoding="utf-8")
    return path


def test_bars_of_any_length_are_adjusted_before_a_split_alone(
    finalized: Pipeline, tmp_path: Path
) -> None:
    """Ten shares become one at 16:00: of tests/data/hand.bars.csv, by hand."""
    splits = splits_of(tmp_path, "TEST,2024-03-15T16:00Z,1:10", "OTHER,2024-03-18,2")
    hours = read(finalized, "1h", splits=splits)
    assert values(hours) == [
        (100.0, 105.0, 99.0, 102.0, 66.5, 7157.5, 14),
        (10.3, 10.3, 10.3, 10.3, 100, 1030, 1),
    ]
    assert [row["vwap"] for row in hours] == [7157.5 / 66.5, 10.3]
    (day,) = read(finalized, "1d", splits=splits)
    assert values([day]) == [(100.0, 105.0, 10.3, 10.3, 166.5, 8187.5, 15)]
    assert states([day]) == [FINAL]

    # A bar begins with the split, though the one before it is not filled.
    assert values(read(finalized, "100tick", splits=splits)) == values(hours)
    unsplit = read(finalized, "1h")
    assert read(finalized, "1h", splits=splits_of(tmp_path, "TEST,2098-03-18,4")) == unsplit


def test_volume_bars_count_adjusted_volumes(finalized: Pipeline, tmp_path: Path) -> None:
    """A split of four to one on the Monday after."""
    splits = splits_of(tmp_path, "TEST,2024-03-18,4")
    found = read(finalized, "200volume", splits=splits)
    assert [row["volume"] for row in found] == [400, 400, 200, 200, 800, 400, 220, 440]
    assert states(found) == [FINAL] * 8


def test_the_command_prints_them(finalized: Pipeline, tmp_path: Path) -> None:
    splits = splits_of(tmp_path, "TEST,2024-03-18,4")
    asked = ("--interval", "200volume", "--splits", str(splits), "--keyspace", finalized.name)
    days = ("--from", "2024-03-15", "--to", "2024-03-16")
    text = run("bars", "TEST", *asked, *days, "--format", "csv", merge=False)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["volume"]) for row in rows] == [400, 400, 200, 200, 800, 400, 220, 440]
    assert rows[0]["window_start"] == "2024-03-15T14:30:00.100Z"
    assert {row["is_final"] for row in rows} == {"true"}


OPTIONS = export_options(
    interval=parse_length("5tick"), symbols=frozenset({"TEST"}), exact=False, detail=True
)


def export(pipeline: Pipeline, folder: Path, options: ExportOptions) -> ExportResult:
    return run_export(pipeline.client, folder, options, Progress(console=Console(stderr=True)))


def test_exports_are_what_is_read_and_keep_what_expires(
    finalized: Pipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "bars"
    assert export(finalized, folder, OPTIONS).rows == 3
    (file,) = folder.glob("*/*.parquet")
    assert pq.ParquetFile(file).read().to_pylist() == read(finalized, "5tick")
    assert export(finalized, folder, OPTIONS).kept == 1

    finalized.client.session.execute(f"TRUNCATE {finalized.name}.trades_silver")
    again = export(finalized, folder, OPTIONS)
    assert (again.kept, again.files, again.fragments) == (1, 0, [])
    assert pq.ParquetFile(file).metadata.num_rows == 3
    fresh = export(finalized, tmp_path / "new", OPTIONS)
    assert (fresh.kept, fresh.files) == (0, 0)
    assert fresh.fragments == ["date=2024-03-15/TEST.parquet"]


def test_half_a_day_that_was_written_before_the_rest_expired_is_said(
    finalized: Pipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "bars"
    export(finalized, folder, OPTIONS)
    finalized.send_tape(late_tape(tmp_path, "2024-03-15T19:00:00", 10.40))
    finalized.ingest()
    finalized.finalize()
    finalized.client.session.execute(f"TRUNCATE {finalized.name}.trades_silver")

    again = export(finalized, folder, OPTIONS)
    assert (again.kept, again.files) == (1, 0)
    assert again.fragments == ["date=2024-03-15/TEST.parquet"]


def test_an_export_of_adjusted_bars_has_a_folder_of_its_own(
    finalized: Pipeline, tmp_path: Path
) -> None:
    now = datetime.now(timezone.utc)
    splits = read_splits(splits_of(tmp_path, "TEST,2024-03-18,4"), now)
    hours = replace(OPTIONS, interval=parse_length("1h"), splits=splits)
    export(finalized, tmp_path / "bars", hours)
    (file,) = (tmp_path / "bars").glob("*/*.parquet")
    assert pq.ParquetFile(file).read()["volume"].to_pylist() == [2660, 400]
    more = read_splits(splits_of(tmp_path, "TEST,2024-03-18,4", "TEST,2025-03-18,2"), now)
    # New York's day begins at 20:00 the evening before.
    with pytest.raises(UsageError, match=r"the split of TEST from 2025-03-18T00:00:00Z on, which"):
        export(finalized, tmp_path / "bars", replace(hours, splits=more))
    with pytest.raises(UsageError, match=r"holds an export of splits .* and not None: choose"):
        export(finalized, tmp_path / "bars", replace(hours, splits=NO_SPLITS))
