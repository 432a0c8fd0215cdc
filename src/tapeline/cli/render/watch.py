"""`tapeline bars --watch`: live candles, drawn again about once a second from Cassandra."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tapeline.cli.render.chart import LEAST_HEIGHT, LEAST_WIDTH, Size, draw_chart
from tapeline.cli.render.live_bars import LiveBars, LiveFeed
from tapeline.cli.render.table import no_bar_of
from tapeline.local.keyspace import open_keyspace
from tapeline.model.errors import UsageError
from tapeline.model.read_interval import ReadInterval
from tapeline.program.process import sigterm_interrupts
from tapeline.program.settings import Settings

_REFRESH_S: Final = 1.0
_PAGE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Grid:
    """So many charts side by side and one above the other."""

    columns: int
    rows: int

    @property
    def charts(self) -> int:
        """How many there are room for."""
        return self.columns * self.rows


def grid_of(charts: int, width: int, height: int) -> Grid:
    """Return the grid that holds all charts and leaves each the most room.

    When they do not all fit at their least size, as many as do.
    """
    most = Grid(max(1, width // LEAST_WIDTH), max(1, height // LEAST_HEIGHT))
    grids = [Grid(columns, math.ceil(charts / columns)) for columns in range(1, most.columns + 1)]
    fitting = [grid for grid in grids if grid.rows <= most.rows]
    # A character is about twice as high as wide, and a chart should be twice as wide as high.
    return max(
        fitting,
        key=lambda g: min(width // g.columns / 4, height // g.rows),
        default=most,
    )


def watch_bars(
    symbols: Sequence[str],
    interval: ReadInterval,
    start: datetime | None,
    end: datetime | None,
    settings: Settings,
) -> None:
    """Draw candles of one symbol, or of several in a grid, until Ctrl-C.

    Args:
        symbols: in the feed's names.
        interval: of the bars.
        start: first bar; None begins as far back as the screen has room for.
        end: bars start before this; None is now.
        settings: the keyspace and the services.

    Raises:
        UsageError: the output is no terminal, or the keyspace has other symbols only.
    """
    console = Console(markup=False)
    if not console.is_terminal:
        message = "--watch draws on a terminal; for a file or a pipe use --format csv or json."
        raise UsageError(message)
    with open_keyspace(settings) as client, sigterm_interrupts(), _woken() as woken:
        known = client.symbols()
        if known and known.isdisjoint(symbols):
            raise UsageError(no_bar_of(symbols, known, client.keyspace))
        charts = {s: LiveBars(client, s, interval, start, end) for s in symbols}
        view = _View(console, interval, charts, LiveFeed(client, settings.cassandra.keyspace))
        with _ended_by_ctrl_c(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(view.draw(datetime.now(timezone.utc)), refresh=True)
                woken.wait(_REFRESH_S)
                woken.clear()


class _View:
    """Everything on the screen: charts that are read again each time, or what is wrong."""

    def __init__(
        self,
        console: Console,
        interval: ReadInterval,
        charts: dict[str, LiveBars],
        feed: LiveFeed,
    ) -> None:
        self._console = console
        self._interval = interval
        self._charts = charts
        self._feed = feed
        self._read_at: datetime | None = None

    def draw(self, now: datetime) -> Table | Text:
        """Read what is new and draw it; without an answer, draw what was read last."""
        width, height = self._console.size
        trouble = self._refresh(now, width)
        lines = [trouble] if trouble else []
        grid = grid_of(len(self._charts), width, height - 1)
        pages = math.ceil(len(self._charts) / grid.charts)
        page = int(time.monotonic() / _PAGE_S) % pages
        if pages > 1:
            lines.append(Text(f"page {page + 1} of {pages}: all fit on a larger terminal", "dim"))
        size = Size(width // grid.columns - (grid.columns > 1), (height - 1) // grid.rows)
        shown = list(self._charts)[page * grid.charts : (page + 1) * grid.charts]
        table = Table.grid(padding=(0, 1, 0, 0) if grid.columns > 1 else 0)
        drawn = [self._chart(symbol, size, now) for symbol in shown]
        for index in range(0, len(drawn), grid.columns):
            table.add_row(*drawn[index : index + grid.columns])
        whole = Table.grid()
        whole.add_row(table)
        for line in lines:
            whole.add_row(line)
        return whole

    def _refresh(self, now: datetime, width: int) -> Text | None:
        try:
            for bars in self._charts.values():
                bars.refresh(now, Size(width, LEAST_HEIGHT).bars)
            self._feed.refresh(now)
        except (DriverException, NoHostAvailable) as error:
            since = f"{self._read_at:%H:%M:%S} UTC" if self._read_at else "the start"
            text = f"Cassandra does not answer since {since} ({type(error).__name__}); trying again"
            return Text(text, "bold red")
        self._read_at = now
        return None

    def _chart(self, symbol: str, size: Size, now: datetime) -> Text:
        bars = self._charts[symbol].bars
        feed = self._feed.state_of(symbol, now)
        if not bars:
            return Text.assemble(
                (symbol, "bold"),
                (f" {self._interval.name}  ", "dim"),
                feed,
                f"\n\nNo bar in keyspace {self._feed.keyspace} in the time shown.\n"
                "They come with `tapeline produce` and `tapeline stream`;\n"
                "`tapeline status` says what is missing.",
            )
        return draw_chart(symbol, self._interval, bars, size, feed)


@contextmanager
def _woken() -> Iterator[threading.Event]:
    """Yield an event that is set when the terminal changes its size."""
    woken = threading.Event()
    before = signal.signal(signal.SIGWINCH, lambda *_: woken.set())
    try:
        yield woken
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Take Ctrl-C for the end that it is here."""
    try:
        yield
    except KeyboardInterrupt:
        return
