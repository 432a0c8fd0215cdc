"""`tapeline gaps`: what it prints, on terminals of several widths and in a pipe."""

from __future__ import annotations

import io
from datetime import datetime, timezone

import pytest
from rich.console import Console

from tapeline.cli.gaps import print_gaps
from tapeline.model.gap import Gap, GapKind

START_US = int(datetime(2026, 11, 20, 14, 35, tzinfo=timezone.utc).timestamp()) * 1_000_000
SYMBOLS = ("COINBASE:BTC-USD", "COINBASE:ETH-USD", "COINBASE:SOL-USD", "COINBASE:XRP-USD")
PRODUCER = "ip-10-0-17-203.eu-central-1.compute.internal:coinbase"
ENDED = Gap(
    PRODUCER,
    "trades_raw",
    "id",
    GapKind.DISCONNECTED,
    SYMBOLS,
    START_US,
    START_US + 1_234_500_000,
    0,
    healed=SYMBOLS[:1],
)
OPEN = Gap("laptop", "trades_raw", "id", GapKind.SILENT, ("AAPL[1]",), START_US, None, 0)


def printed(width, *, is_terminal=True):
    file = io.StringIO()
    terminal = {"width": width, "force_terminal": is_terminal, "color_system": None}
    print_gaps([ENDED, OPEN], Console(file=file, markup=False, **terminal))
    return file.getvalue().splitlines()


def test_a_wide_terminal_and_a_pipe_have_a_line_each():
    lines = printed(240)
    assert lines[0].split() == ["from", "to", "seconds", "why", "producer", "symbols"]
    assert lines[2].split() == [
        *("2026-11-20T14:35:00Z", "2026-11-20T14:55:34Z", "1,234.5", "disconnected"),
        *(PRODUCER, "COINBASE:BTC-USD,", "COINBASE:ETH-USD,", "COINBASE:SOL-USD"),
        *("and", "1", "more", "(1", "healed)"),
    ]
    assert lines[3].split() == [
        *("2026-11-20T14:35:00Z", "it", "lasts", "silent", "laptop", "AAPL[1]")
    ]
    assert printed(80, is_terminal=False) == lines


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_has_two_lines_each_and_loses_nothing(width):
    assert printed(width) == [
        "2026-11-20T14:35:00Z to 2026-11-20T14:55:34Z, 1,234.5 s: disconnected",
        f"  {PRODUCER}: COINBASE:BTC-USD, COINBASE:ETH-USD, COINBASE:SOL-USD and 1 more (1 healed)",
        "2026-11-20T14:35:00Z, it lasts: silent",
        "  laptop: AAPL[1]",
    ]
