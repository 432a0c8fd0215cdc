"""What `import tapeline` costs a notebook."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"pyspark", "duckdb", "polars", "pandas", "fastapi", "typer"}


def test_reading_bars_and_trades_loads_no_spark():
    code = "import sys, tapeline; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "tapeline" in loaded
    assert HEAVY.isdisjoint(loaded)
