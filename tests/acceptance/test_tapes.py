"""Real trades through every real part give the vendor's own bars.

The tapes are no part of the project: TAPELINE_TAPES names their folder.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest

from tapeline.local.home import Home
from tapeline.model.bar import Bar
from tapeline.simulator.ledger import SentReport
from tests.commands import (
    finish,
    rows_of_layers,
    run,
    spark_drivers,
    start,
    stored_bars,
    wait_for,
)
from tests.pipeline import Pipeline

from .vendor import EPOCH, differences, read_vendor_bars, roll_up_to_hours, with_ambiguous

REPLAYED = ("--keyspace", "replay", "--topic", "replay")
SPY = ("spy_20131007", 250_601, 188)
GOLD = (_, GOLD_TRADES, GOLD_BARS) = ("gold_20131007", 40_182, 434)
BAC = ("bac_20131007_11", 573_620, 733)
"""Name, trades, and windows whose bar the vendor made of exactly these trades."""


def tape(name: str, kind: str = "trades") -> Path:
    return Path(os.environ["TAPELINE_TAPES"]) / f"{name}.{kind}.csv.gz"


def require_equal_bars(
    name: str, exact_bars: int, ambiguous_volume: Mapping[str, float] | None = None
) -> None:
    """Check five-minute and hour bars against the vendor's; all must be final."""
    vendor = with_ambiguous(read_vendor_bars(tape(name, "bars_5m")), ambiguous_volume or {})
    symbols = {b.symbol for b in vendor}
    exact = [b for b in vendor if b.is_exact]
    ours = stored_bars(symbols, "5m", "replay")
    assert len(exact) == exact_bars
    assert differences(exact, ours) == []
    assert all(bar["is_final"] for bar in ours.values())
    hours = stored_bars(symbols, "1h", "replay")
    exact_hours = [b for b in roll_up_to_hours(vendor) if b.is_exact]
    assert exact_hours
    assert differences(exact_hours, hours) == []
    assert all(bar["is_final"] for bar in hours.values())


def require_clean_audit(name: str, trades: int, exact_bars: int | None = None) -> None:
    """Audit every layer of a replay; the vendor's bars too, when it has so many exact ones."""
    vendor = ("--against", str(tape(name, "bars_5m"))) if exact_bars else ()
    report = json.loads(run("audit", *REPLAYED, *vendor, "--format", "json", merge=False))
    checked = {layer["layers"]: layer["checked"] for layer in report["layers"]}
    assert checked["Kafka → bronze"] == trades
    assert checked["bronze → silver, quarantine"] == trades
    assert checked.get("vendor → 5m bars") == exact_bars
    assert all(layer["not_yet"] == layer["not_auditable"] == 0 for layer in report["layers"])


@pytest.mark.parametrize(("name", "trades", "exact_bars"), [SPY, GOLD, BAC])
@pytest.mark.usefixtures("stack")
def test_bars_of_a_tape_equal_the_vendors(name: str, trades: int, exact_bars: int) -> None:
    rows = rows_of_layers(run("replay", str(tape(name)), "--policy", "sip"))

    assert rows["trades_bronze"] == trades
    assert rows["trades_silver"] == trades
    assert rows["trades_quarantine"] == 0
    require_equal_bars(name, exact_bars)
    require_clean_audit(name, trades, exact_bars)


AGAIN = ("--fault", "redeliver=0.1")
REORDERED = ("--fault", "reorder=5m")
FAULTS = {"redelivered": AGAIN, "reordered": REORDERED, "both": (*AGAIN, *REORDERED)}
QUICK = {(GOLD, "both")}


@pytest.mark.parametrize(
    ("name", "trades", "exact_bars", "faults"),
    [
        pytest.param(
            *sizes,
            FAULTS[what],
            marks=[] if (sizes, what) in QUICK else pytest.mark.long,
            id=f"{sizes[0]}-{what}",
        )
        for sizes in (GOLD, SPY, BAC)
        for what in FAULTS
    ],
)
@pytest.mark.usefixtures("stack")
def test_a_faulty_feed_gives_the_same_bars(
    home: Home, name: str, trades: int, exact_bars: int, faults: tuple[str, ...]
) -> None:
    rows = rows_of_layers(run("replay", str(tape(name)), "--policy", "sip", *faults))

    sent = SentReport.read(home.logs / "sent-replay.json")
    assert sent.trades - sent.redelivered == trades
    assert (sent.redelivered > trades // 20) == (AGAIN[1] in faults)
    assert rows["trades_bronze"] == sent.trades
    assert rows["trades_silver"] == trades + sent.ambiguous
    require_equal_bars(name, exact_bars, sent.ambiguous_volume)
    # Volumes that were sent again and look like twins are no vendor's.
    require_clean_audit(name, sent.trades)


@contextmanager
def replaying_gold(batch_size: int) -> Iterator[subprocess.Popen[str]]:
    """Replay the gold tape in batches so small that a kill falls between first and last."""
    small = {"TAPELINE_STREAM__MAX_OFFSETS_PER_TRIGGER": str(batch_size)}
    process = start("replay", str(tape("gold_20131007")), "--policy", "sip", environment=small)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def kill_driver_after_more_batches(process: subprocess.Popen[str]) -> None:
    """Wait until a running driver has committed a batch of its own, and kill it."""
    (driver,) = wait_for(lambda: spark_drivers(process.pid))
    before = _batches_in_log()
    wait_for(lambda: _batches_in_log() > before)
    driver.kill()
    psutil.wait_procs([driver], timeout=30)


@pytest.mark.usefixtures("stack")
def test_three_kills_of_the_spark_driver_change_nothing() -> None:
    with replaying_gold(batch_size=4000) as process:
        for _ in range(3):
            kill_driver_after_more_batches(process)
        output = finish(process)

    assert output.count("child_restarted") == 3, output
    rows = rows_of_layers(output)
    assert (rows["trades_bronze"], rows["trades_silver"]) == (GOLD_TRADES, GOLD_TRADES)
    require_equal_bars("gold_20131007", GOLD_BARS)
    require_clean_audit("gold_20131007", GOLD_TRADES, GOLD_BARS)


@pytest.mark.usefixtures("stack")
def test_a_checkpoint_deleted_in_a_replay_changes_nothing(home: Home) -> None:
    with replaying_gold(batch_size=10_000) as process:
        kill_driver_after_more_batches(process)
        shutil.rmtree(home.checkpoints / "replay-replay")
        rows = rows_of_layers(finish(process))

    assert (rows["trades_bronze"], rows["trades_silver"]) == (GOLD_TRADES, GOLD_TRADES)
    require_equal_bars("gold_20131007", GOLD_BARS)
    require_clean_audit("gold_20131007", GOLD_TRADES, GOLD_BARS)


def _batches_in_log() -> int:
    log = Home(Path(os.environ["TAPELINE_HOME"])).logs / "stream.log"
    return log.read_text().count("event=batch_ingested") if log.exists() else 0


def test_late_trades_revise_just_their_bars(pipeline: Pipeline, tmp_path: Path) -> None:
    """One trade in a hundred comes after its bar is final."""
    with gzip.open(tape("gold_20131007"), "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    chosen = random.Random(7)  # noqa: S311 - a choice, not a secret
    moments = dict.fromkeys((row["symbol"], row["event_time_ms"]) for row in rows)
    late = {moment for moment in moments if chosen.random() < 0.01}
    files = []
    for name, is_late in (("early", False), ("late", True)):
        files.append(tmp_path / f"{name}.csv")
        part = [r for r in rows if ((r["symbol"], r["event_time_ms"]) in late) == is_late]
        write_tape(files[-1], part)

    early_bars = finalized_bars(pipeline, files[0])
    bars = finalized_bars(pipeline, files[1])

    windows = {
        (symbol, EPOCH + timedelta(milliseconds=int(ms) // 300_000 * 300_000))
        for symbol, ms in late
    }
    assert len(windows) > 50
    revised = {key for key, bar in bars.items() if bar.revision == 2}
    # A window without a bar until then too: longer bars that were final change with it.
    assert early_bars.keys() - windows
    assert revised == windows
    assert {bars[key].reason for key in revised} == {"late_trade"}
    assert {bar.revision for key, bar in bars.items() if key not in revised} == {1}
    vendor = read_vendor_bars(tape("gold_20131007", "bars_5m"))
    ours = stored_bars({b.symbol for b in vendor}, "5m", pipeline.name)
    assert differences([b for b in vendor if b.is_exact], ours) == []


def finalized_bars(pipeline: Pipeline, path: Path) -> dict[tuple[str, datetime], Bar]:
    """Send a tape, finalize everything and return the bars."""
    pipeline.send_tape(path)
    pipeline.ingest()
    while not pipeline.finalize().is_finished:
        pass
    return pipeline.bars()


def write_tape(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_tape_of_2013_after_one_of_today_gives_the_vendors_bars(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """One keyspace, topic and checkpoint; the gold tape is moved by whole days to yesterday."""
    days = datetime.now(timezone.utc) - datetime(2013, 10, 8, tzinfo=timezone.utc)
    shift = timedelta(days=days.days)
    with gzip.open(tape("gold_20131007"), "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        row["event_time_ms"] = str(int(row["event_time_ms"]) + shift // timedelta(milliseconds=1))
    write_tape(tmp_path / "yesterday.csv", rows)

    for path in (tmp_path / "yesterday.csv", tape("gold_20131007")):
        finalized_bars(pipeline, path)
        pipeline.preview()

    exact = [b for b in read_vendor_bars(tape("gold_20131007", "bars_5m")) if b.is_exact]
    moved = [replace(b, window_start=b.window_start + shift) for b in exact]
    ours = stored_bars({b.symbol for b in exact}, "5m", pipeline.name)
    assert differences([*exact, *moved], ours) == []
    assert all(bar["is_final"] for bar in ours.values())
    run("audit", "--keyspace", pipeline.name, "--topic", pipeline.name)


def test_a_changed_trade_of_the_tape_is_found_and_its_bar_named(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.csv"
    with gzip.open(tape("gold_20131007"), "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    # 1381104000276 is 2013-10-07T00:00Z, the day's first trade.
    assert rows[0]["event_time_ms"] == "1381104000276"
    rows[0]["price"] = "1300.0"
    write_tape(changed, rows)

    found = _gold_differences(pipeline, changed)

    assert {line.split(":")[0] for line in found} == {"GC201312 2013-10-07T00"}
    assert any("open is 1300.0, the vendor's is 1313.7" in line for line in found)


def test_a_row_changed_in_silver_before_finalizing_is_found_and_its_bar_named(
    pipeline: Pipeline,
) -> None:
    pipeline.send_tape(tape("gold_20131007"))
    pipeline.ingest()
    row = pipeline.session.execute(
        "SELECT bucket, event_time, trade_id FROM trades_silver "
        "WHERE symbol = 'GC201312' AND bucket = '2013-10-07 13:30:00+0000' LIMIT 1"
    ).one()
    pipeline.session.execute(
        "UPDATE trades_silver SET volume = 100000 "
        "WHERE symbol = 'GC201312' AND bucket = %s AND event_time = %s AND trade_id = %s",
        (row.bucket, row.event_time, row.trade_id),
    )

    found = _gold_differences(pipeline, None)

    assert len(found) == 1
    assert found[0].startswith("GC201312 2013-10-07T13:30: volume is ")


def _gold_differences(pipeline: Pipeline, path: Path | None) -> list[str]:
    """Bring a tape to final bars, if one is given, and compare them with the vendor's."""
    if path is not None:
        pipeline.send_tape(path)
        pipeline.ingest()
    while not pipeline.finalize().is_finished:
        pass
    vendor = read_vendor_bars(tape("gold_20131007", "bars_5m"))
    ours = stored_bars({b.symbol for b in vendor}, "5m", pipeline.name)
    return differences([b for b in vendor if b.is_exact], ours)
