"""What an audit found, counted in bounded memory and written for people and programs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from tapeline.audit.context import Scope
from tapeline.audit.findings import (
    KEPT_DIFFERENCES,
    Difference,
    Findings,
    MessageRef,
    Pair,
    TradeRef,
)
from tapeline.audit.report import json_report, print_report
from tapeline.audit.tables import Spill
from tests.audit_rows import START, START_MS, a_trade, copies


def a_difference(minutes: int = 0, pair: Pair = Pair.SILVER_GOLD) -> Difference:
    return Difference(
        pair=pair,
        what="volume",
        expected="100",
        found="101",
        symbol="AAPL",
        window_start=START + timedelta(minutes=minutes),
    )


def printed(findings: Findings) -> str:
    file = io.StringIO()
    print_report(findings, Console(file=file, width=300))
    return file.getvalue()


def test_a_report_names_bar_trade_and_message() -> None:
    findings = Findings()
    difference = Difference(
        pair=Pair.BRONZE_SILVER,
        what="price",
        expected="10.0",
        found="11.0",
        symbol="AAPL",
        window_start=START,
        trade=TradeRef(event_time=START + timedelta(milliseconds=250), trade_id=-42),
        message=MessageRef(topic_id="id", kafka_partition=1, kafka_offset=77),
    )
    findings.checked(Pair.BRONZE_SILVER, 10, [difference])

    text = printed(findings)

    for part in (
        "AAPL 5m 2026-11-20T15:30:00Z",
        "2026-11-20T15:30:00.250Z id -42",
        "partition 1 offset 77",
        "price",
        "10.0",
        "11.0",
    ):
        assert part in text
    assert json.loads(json_report(findings))["differences"] == [
        {
            "layers": "bronze → silver, quarantine",
            "symbol": "AAPL",
            "interval": "5m",
            "window_start": "2026-11-20T15:30:00Z",
            "what": "price",
            "expected": "10.0",
            "found": "11.0",
            "trade": {"event_time": "2026-11-20T15:30:00.250Z", "trade_id": -42},
            "message": {"topic_id": "id", "kafka_partition": 1, "kafka_offset": 77},
        }
    ]


def test_a_report_counts_by_layers_and_says_whether_all_is_equal() -> None:
    findings = Findings()
    findings.checked(Pair.SILVER_GOLD, 5, [])
    findings.not_yet(Pair.SILVER_GOLD, 2)
    findings.checked(Pair.KAFKA_BRONZE, 17, [])
    starts = [START, START + timedelta(hours=2), START - timedelta(hours=1)]
    findings.not_auditable(Pair.SILVER_GOLD, "windows of old", starts)

    report = json.loads(json_report(findings))

    assert report["equal"] is True
    assert report["layers"] == [
        {
            "layers": "Kafka → bronze",
            "checked": 17,
            "differences": 0,
            "not_yet": 0,
            "not_auditable": 0,
        },
        {
            "layers": "silver → 5m bars",
            "checked": 5,
            "differences": 0,
            "not_yet": 2,
            "not_auditable": 3,
        },
    ]
    line = "3 windows of old, 2026-11-20T14:30:00Z to 2026-11-20T17:30:00Z."
    assert f"Not auditable, silver → 5m bars: {line}" in printed(findings)
    assert report["not_auditable"] == [
        {
            "layers": "silver → 5m bars",
            "what": "windows of old",
            "count": 3,
            "first": "2026-11-20T14:30:00Z",
            "last": "2026-11-20T17:30:00Z",
        }
    ]


def test_the_first_differences_are_shown_and_the_rest_counted() -> None:
    findings = Findings()
    findings.checked(Pair.SILVER_GOLD, 60, [a_difference(m) for m in reversed(range(60))])
    findings.checked(Pair.KAFKA_BRONZE, 1, [a_difference(90, Pair.KAFKA_BRONZE)])

    text = printed(findings)

    assert text.count("AAPL 5m") == 50
    assert "17:00:00Z" in text  # Kafka's comes first
    assert "15:30:00Z" in text
    assert "16:29:00Z" not in text
    assert "… and 11 more." in text


def test_more_differences_than_are_kept_are_still_counted() -> None:
    findings = Findings()
    findings.checked(
        Pair.SILVER_GOLD, 5000, (a_difference(m) for m in range(KEPT_DIFFERENCES + 500))
    )

    assert len(findings.differences) == KEPT_DIFFERENCES
    assert findings.total_differences == KEPT_DIFFERENCES + 500


def test_a_scope_is_of_whole_hours() -> None:
    scope = Scope.of(START, START + timedelta(minutes=31), ["AAPL"])

    hour = START.replace(minute=0)
    assert (scope.start, scope.end) == (hour, hour + timedelta(hours=2))
    assert scope.covers(("AAPL", hour))
    assert not scope.covers(("AAPL", hour + timedelta(hours=2)))
    assert not scope.covers(("MSFT", hour))
    rows = copies(a_trade(), a_trade(symbol="MSFT"), a_trade(bucket_ms=START_MS + 5_400_000))
    assert scope.only(rows).num_rows == 1
    assert Scope.of(None, None, None).is_everything


def test_an_audit_loads_no_spark_and_nothing_of_what_it_audits() -> None:
    code = (
        "import sys, tapeline.cli.audit; "
        "print([m for m in sys.modules if m.startswith(('pyspark', 'tapeline.consumer'))])"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert loaded.stdout.decode().strip() == "[]"


def test_trades_come_back_from_disk_with_all_of_a_window_in_one_part(tmp_path: Path) -> None:
    rows = [a_trade(trade_id=n, bucket_ms=START_MS + n % 40 * 300_000) for n in range(200)]
    spill = Spill(tmp_path, rows=1_000_000)
    for first in range(0, 200, 50):
        spill.add(copies(*rows[first : first + 50]))
    spill.close()

    parts = [spill.read(part) for part in spill.parts]

    assert len(parts) == 5
    assert sorted(row["trade_id"] for p in parts for row in p.to_pylist()) == list(range(200))
    windows = [bucket for p in parts for bucket in p["bucket_ms"].unique().to_pylist()]
    assert len(windows) == len(set(windows)) == 40
    assert parts[0].schema == copies().schema
