"""A tape as another program wrote it, through every part to bars worked out by hand."""

from __future__ import annotations

import gzip
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from tapeline import read_bars
from tests.commands import rows_of_layers, run

LINES = (
    "ts;ticker;px;qty;cond;venue",
    "1710513000100999;IBM   ;10.10;100;@;N",
    "1710513000200000;IBM;99.00;50;@  B;N",  # an average price on the CTA's tape: volume only
    "1710513000300000;IBM;10.30;7;@  I;N",  # an odd lot: volume only
    "1710513000300500;IBM;10.20;20;@F;N",
    "1710513000300900;IBM;10.00;30; ;N",  # the same millisecond, and after it
    "1710513000400000;IBM;50.00;3;@2;N",  # no letter of today's: volume only
)


@pytest.mark.usefixtures("stack")
def test_a_file_in_microseconds_with_letters_of_the_sip_becomes_its_bars(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + "\r\n".join(LINES).encode()))

    output = run(
        *("replay", str(path), "--policy", "sip", "--conditions", "cta"),
        *("--columns", "time=ts,symbol=ticker,price=px,size=qty,conditions=cond"),
    )

    layers = rows_of_layers(output)
    assert (layers["tape"], layers["trades_silver"], layers["trades_quarantine"]) == (6, 6, 0)
    assert "Times are microseconds since 1970." in output
    # At its start and at its end.
    assert output.count("set no price unless the policy is all: sip-2 (1).") == 2
    day = datetime(2024, 3, 15, tzinfo=timezone.utc)
    (bar,) = read_bars(
        "IBM", "5m", day, day.replace(day=16), keyspace="replay", exact=True
    ).to_pylist()
    assert [float(bar[name]) for name in ("open", "high", "low", "close")] == [10.1, 10.2, 10, 10]
    assert (bar["volume"], bar["trade_count"]) == (Decimal(210), 6)
    assert bar["window_start"] == day.replace(hour=14, minute=30)
