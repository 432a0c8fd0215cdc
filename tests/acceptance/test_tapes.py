"""Real trades through every real part give the vendor's own bars.

The tapes are no part of the project: TAPELINE_TAPES names their folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tapeline.bars import read_bars

from .vendor import differences, read_vendor_bars, roll_up_to_hours

TIMEOUT_S = 600


def tape(name: str, kind: str) -> Path:
    return Path(os.environ["TAPELINE_TAPES"]) / f"{name}.{kind}.csv.gz"


def replay(path: Path) -> dict[str, int]:
    """Run the command; return the rows of each layer that it prints."""
    run = subprocess.run(
        [sys.executable, "-m", "tapeline", "replay", str(path), "--policy", "sip"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {
        name.strip(): int(count.replace(",", ""))
        for name, count in re.findall(r"│ ([\w ,]+?)\s+│\s+([\d,]+) │", run.stdout)
    }


def our_bars(
    symbols: set[str], interval: str, start: datetime, end: datetime
) -> dict[tuple[str, datetime], dict[str, Any]]:
    table = read_bars(sorted(symbols), interval, start, end, keyspace="replay")
    return {(row["symbol"], row["window_start"]): row for row in table.to_pylist()}


@pytest.mark.parametrize(
    ("name", "trades", "exact_bars"),
    [
        ("spy_20131007", 250_601, 188),
        ("gold_20131007", 40_182, 434),
        ("bac_20131007_11", 573_620, 733),
    ],
)
def test_bars_of_a_tape_equal_the_vendors(name: str, trades: int, exact_bars: int) -> None:
    rows = replay(tape(name, "trades"))

    assert rows["trades_bronze"] == trades
    assert rows["trades_silver"] == trades
    assert rows["trades_quarantine"] == 0
    vendor = read_vendor_bars(tape(name, "bars_5m"))
    symbols = {b.symbol for b in vendor}
    start = min(b.window_start for b in vendor).replace(hour=0, minute=0)
    end = max(b.window_start for b in vendor) + timedelta(days=1)
    ours = our_bars(symbols, "5m", start, end)
    exact = [b for b in vendor if b.is_exact]
    assert len(exact) == exact_bars
    assert differences(exact, ours) == []
    assert all(bar["is_final"] for bar in ours.values())
    hours = our_bars(symbols, "1h", start, end)
    exact_hours = [b for b in roll_up_to_hours(vendor) if b.is_exact]
    assert exact_hours
    assert differences(exact_hours, hours) == []
    assert all(bar["is_final"] for bar in hours.values())
