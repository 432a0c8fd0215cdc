"""Candles of box characters, two steps of price to a row; volume in eighths of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tapeline.model.bar import Bar

# Upper half and lower half of a cell: nothing, wick or body.
_GLYPHS: Final = {
    "  ": " ",
    "ww": "│",
    "bb": "┃",
    " w": "╷",
    "w ": "╵",
    " b": "╻",
    "b ": "╹",
    "wb": "╽",
    "bw": "╿",
}
_PROVISIONAL: Final = {**_GLYPHS, "ww": "┊", "bb": "┋"}
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_STEPS: Final = (1, 2, 5, 10)
_MOST_DECIMALS: Final = 9
"""Of a price written in full: more would not fit beside the candles."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Prices from `low` at the bottom to `high` at the top of so many rows."""

    low: float
    high: float
    rows: int

    def half(self, price: float) -> int:
        """Return the half row of a price, 0 at the top."""
        last = 2 * self.rows - 1
        if self.high == self.low:
            return last // 2
        return min(
            last, max(0, math.floor((self.high - price) / (self.high - self.low) * last + 0.5))
        )

    def row(self, price: float) -> int:
        """Return the row of a price, 0 at the top."""
        return self.half(price) // 2

    def ticks(self) -> list[float]:
        """Return round prices to name at the side, at most one in two rows, lowest first."""
        step = self.step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]

    @property
    def step(self) -> float:
        """The distance of two ticks: 1, 2 or 5 of some power of ten."""
        least = (self.high - self.low) / max(1, self.rows // 2) or abs(self.high) or 1.0
        power = 10.0 ** math.floor(math.log10(least))
        return next(s * power for s in _STEPS if s * power >= least * (1 - 1e-9))

    def tick_text(self, price: float) -> str:
        """Write a price so that two ticks can be told apart."""
        return self._text(price, self.step)

    def fine_text(self, price: float, sign: str = "") -> str:
        """Write a price so that a twentieth of the height can be seen, with `+` as sign or none."""
        return self._text(price, Scale(self.low, self.high, 40).step, sign)

    def _text(self, price: float, step: float, sign: str = "") -> str:
        decimals = max(2, -math.floor(math.log10(step) + 1e-9))
        if decimals <= _MOST_DECIMALS:
            return f"{price:{sign},.{decimals}f}"
        largest = max(abs(self.low), abs(self.high))
        digits = decimals + math.floor(math.log10(largest)) + 1
        return f"{price:{sign}.{max(1, digits)}g}"


def scale_of(bars: Sequence[Bar], rows: int) -> Scale | None:
    """Return a scale that holds all highs and lows; None when no bar has a price."""
    highs = [b.high for b in bars if b.high is not None]
    lows = [b.low for b in bars if b.low is not None]
    return Scale(min(lows), max(highs), rows) if highs and lows else None


def candle(bar: Bar, scale: Scale) -> list[str]:
    """Return a candle, one character a row; a provisional one is dashed.

    A bar without prices is blank.
    """
    if bar.open is None or bar.high is None or bar.low is None or bar.close is None:
        return [" "] * scale.rows
    top, bottom = scale.half(bar.high), scale.half(bar.low)
    ends = sorted((scale.half(bar.open), scale.half(bar.close)))
    halves = "".join(
        "b" if ends[0] <= h <= ends[1] else "w" if top <= h <= bottom else " "
        for h in range(2 * scale.rows)
    )
    glyphs = _GLYPHS if bar.is_final else _PROVISIONAL
    return [glyphs[halves[i : i + 2]] for i in range(0, len(halves), 2)]


def column(amount: float, most: float, rows: int) -> list[str]:
    """Return a column of volume, one character a row, the top first.

    Any amount above 0 is seen; `most` fills all rows.
    """
    if amount <= 0 or most <= 0:
        return [" "] * rows
    eighths = max(1, round(amount / most * rows * 8))
    return [_EIGHTHS[min(8, max(0, eighths - 8 * row))] for row in reversed(range(rows))]
