"""Coins of a billionth of a dollar, coins of a fortune, and oil below zero."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tapeline.model.bar import Interval
from tests.pipeline import Pipeline
from tests.sample import a_bar

from .conftest import Open

FOLDER = os.environ.get("TAPELINE_PICTURES_OF_PRICES")
START = datetime(2026, 11, 20, 14, tzinfo=timezone.utc)
# Four prices of a bar, as a person would write them.
BARS = {
    "COINBASE:TINY-USD": (("1.6743e-9", "1.6801e-9", "1.6699e-9", "1.675e-9"), 13),
    "COINBASE:SMALL-USD": (("0.00000789", "0.00000801", "0.00000785", "0.000008"), 8),
    "COINBASE:LARGE-USD": (("712345.5", "712400", "711999.25", "712000.75"), 2),
    "CL": (("-37.63", "0.01", "-40.32", "-13.1"), 2),
}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_each_price_is_written_with_its_digits(
    pipeline: Pipeline, open_page: Open, scheme: str
) -> None:
    for symbol, (prices, _) in BARS.items():
        values = dict(zip(("open", "high", "low", "close"), map(float, prices), strict=True))
        bars = [
            a_bar(
                symbol=symbol,
                window_start=START + timedelta(minutes=5 * n),
                window_end=START + timedelta(minutes=5 * n + 5),
                is_final=True,
                revision=1,
                **values,
            )
            for n in range(30)
        ]
        pipeline.client.write_final_bars(Interval.FIVE_MINUTES, [(bar, 1) for bar in bars])

    for symbol, (prices, decimals) in BARS.items():
        tab = open_page(f"?symbol={symbol}&interval=5m&range=all", scheme)
        tab.wait("tapeline.bars().length === 30")
        written = [f"{float(p):,.{decimals}f}" for p in prices]
        legend = tab.page.inner_text("#legend .values").split()
        assert legend[:4] == [f"{n}{text}" for n, text in zip("OHLC", written, strict=True)]
        assert tab.errors == []
        if FOLDER:
            name = f"{symbol.replace(':', '-')}-{scheme}.png"
            tab.page.screenshot(path=Path(FOLDER) / name)
