"""A chart of one symbol that fills a rectangle of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rich.text import Text

from tapeline.cli.render.candles import Scale, candle, column, scale_of
from tapeline.model.bar import Bar, state_text
from tapeline.model.read_interval import ReadInterval

LEAST_WIDTH: Final = 40
LEAST_HEIGHT: Final = 10
"""The smallest chart that is worth drawing."""

_SPACING: Final = 2
_LABEL: Final = 14
_TIME_EVERY: Final = 12
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Size:
    """A rectangle in characters."""

    width: int
    height: int

    @property
    def bars(self) -> int:
        """How many candles fit into the width."""
        return max(1, (self.width - _LABEL) // _SPACING)

    @property
    def volume_rows(self) -> int:
        """Rows of volume: about a sixth."""
        return max(1, self.height // 6)

    @property
    def price_rows(self) -> int:
        """Rows of candles: what is left by header, volume, state and times."""
        return max(1, self.height - self.volume_rows - 3)


def draw_chart(
    symbol: str, interval: ReadInterval, bars: Sequence[Bar], size: Size, feed: Text
) -> Text:
    """Draw the newest bars that fit, oldest at the left.

    Lines: header; candles with prices at the right; volume; a line of states (`─` final, `╌`
    provisional, `!` incomplete); times.

    Args:
        symbol: for the header.
        interval: of the bars.
        bars: in order of time.
        size: of the chart, at least 40 by 10.
        feed: what is known of the feed, for the header.
    """
    shown = bars[-size.bars :]
    header = _header(symbol, interval, shown, feed)
    scale = scale_of(shown, size.price_rows)
    if scale is None:
        header.append("\n\nNo bar with a price yet.")
        return header
    lines = [
        header,
        *_price_lines(shown, scale),
        *_volume_lines(shown, size.volume_rows),
        Text("".join(_state(bar) for bar in shown), "dim"),
        Text(_times(shown, interval), "dim"),
    ]
    for line in lines:
        line.truncate(size.width)
    chart = Text("\n").join(lines)
    chart.no_wrap, chart.overflow = True, "crop"
    return chart


def change_of(bars: Sequence[Bar]) -> tuple[float, float] | None:
    """Return the last price less the first open, and that in percent; None without prices."""
    opens = [b.open for b in bars if b.open is not None]
    closes = [b.close for b in bars if b.close is not None]
    if not opens or not closes:
        return None
    change = closes[-1] - opens[0]
    return change, change / abs(opens[0]) * 100 if opens[0] else 0.0


def _header(symbol: str, interval: ReadInterval, bars: Sequence[Bar], feed: Text) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(symbol, "bold").append(f" {interval.name}", "dim")
    change = change_of(bars)
    scale = scale_of(bars, 1)
    if change is not None and scale is not None:
        close = next(b.close for b in reversed(bars) if b.close is not None)
        since = next(b for b in bars if b.open is not None).window_start
        text.append(f"  {scale.fine_text(close)}", "bold")
        text.append(f"  {state_of(bars[-1])}")
        text.append(f"  {scale.fine_text(change[0], '+')} ({change[1]:+.2f}%)", _colour(change[0]))
        text.append(
            f" since {since:%H:%M}" if interval.duration < _DAY else f" since {since:%Y-%m-%d}"
        )
    return text.append("  ").append_text(feed)


def state_of(bar: Bar) -> str:
    """Say in a word or two how sure a bar is."""
    state = state_text(bar.revision, is_final=bar.is_final)
    return f"{state}, incomplete" if bar.is_final and bar.is_complete is False else state


def _price_lines(bars: Sequence[Bar], scale: Scale) -> list[Text]:
    candles = [candle(bar, scale) for bar in bars]
    styles = [_colour((b.close or 0.0) - (b.open or 0.0)) for b in bars]
    labels = {scale.row(p): Text(f"├ {scale.tick_text(p)}", "dim") for p in scale.ticks()}
    last = next(b for b in reversed(bars) if b.close is not None)
    if last.close is not None:
        labels[scale.row(last.close)] = Text.assemble(
            "╞ ", (scale.fine_text(last.close), "reverse")
        )
    lines = []
    for row in range(scale.rows):
        line = Text()
        for cells, style in zip(candles, styles, strict=True):
            line.append(cells[row], style).append(" ")
        lines.append(line.append_text(labels.get(row, Text("│", "dim"))))
    return lines


def _volume_lines(bars: Sequence[Bar], rows: int) -> list[Text]:
    most = max(float(b.volume) for b in bars)
    columns = [column(float(b.volume), most, rows) for b in bars]
    labels = {0: f"  {most:,.6g}"}
    return [
        Text("".join(f"{cells[row]} " for cells in columns) + labels.get(row, ""), "blue")
        for row in range(rows)
    ]


def _state(bar: Bar) -> str:
    if bar.is_complete is False:
        return "!─"
    return "──" if bar.is_final else "╌╌"


def _times(bars: Sequence[Bar], interval: ReadInterval) -> str:
    """Write times below their bars: a day when it is new, else hours and minutes."""
    text = ""
    day = None
    for index in range(0, len(bars), _TIME_EVERY // _SPACING):
        start = bars[index].window_start
        is_new = interval.duration >= _DAY or start.date() != day
        text = text.ljust(index * _SPACING) + (
            f"{start:%m-%d %H:%M}" if is_new else f"{start:%H:%M}"
        )
        day = start.date()
    return text


def _colour(change: float) -> str:
    return "green" if change > 0 else "red" if change < 0 else ""
