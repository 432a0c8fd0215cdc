"""`tapeline demo`: everything at once, and live bars on the terminal and in the browser."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from types import FrameType
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tapeline.client.api import Api
from tapeline.client.bars import StreamedBar, latest_bars
from tapeline.demo.market import SIMULATED, Market, public_market
from tapeline.demo.parts import DemoParts, running_demo
from tapeline.local.home import Home
from tapeline.local.lock import only_one
from tapeline.local.supervisor import keep_alive
from tapeline.model.bar import state_text
from tapeline.model.errors import FeedError, TapelineError
from tapeline.program.logs import configure_logging
from tapeline.program.options import seconds_option
from tapeline.program.profile import PROFILE_HELP, Profile
from tapeline.program.settings import Settings, load_settings
from tapeline.simulator.child import DEMO

_REFRESH_S: Final = 0.5
_ANSWER_S: Final = 2.0
_WIDE: Final = 118
_Read = Callable[[], list[StreamedBar]]


def demo(
    for_s: Annotated[
        float | None, seconds_option("--for", "End after so many seconds of new bars.")
    ] = None,
    profile: Annotated[
        Profile | None, typer.Option(help=f"{PROFILE_HELP} Small unless TAPELINE_PROFILE is set.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Bars of Coinbase, Kraken or Binance; wants no key.")
    ] = False,
) -> None:
    """Start everything and show live bars of a simulated market, or of a real one.

    Kafka, Cassandra, the feed, the producer, the Spark job and the API with its page, in keyspace
    and topic `demo`, with --live `demo_live`. Ctrl-C stops all of it; the data stays.

    Examples:
      tapeline demo --for 60

      tapeline demo --live
    """
    console = Console(markup=False)
    settings = load_settings()
    if profile is None and "profile" not in settings.model_fields_set:
        profile = Profile.SMALL
    market = _live_market(settings, console) if live else SIMULATED
    settings = settings.with_target(topic=market.target, keyspace=market.target, profile=profile)
    Home(settings.home).make_writable()
    configure_logging(settings)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopping_on_signals())
        stack.enter_context(only_one(Home(settings.home), DEMO))
        parts = stack.enter_context(running_demo(settings, market, console))
        console.print(f"Logs are in {Home(settings.home).logs}. Ctrl-C ends the demo.")
        show = _show_table if console.is_terminal else _show_lines
        latest = partial(_latest, Api(parts.page, timeout_s=_ANSWER_S), parts.market.symbols)
        show(console, latest, parts, _Until(stop, for_s))
    command = "tapeline demo" if market.is_simulated else "tapeline demo --live"
    console.print(f"The demo has ended; `{command}` goes on where it was.")


def _live_market(settings: Settings, console: Console) -> Market:
    """Return a public feed; without a connection the simulated market, and say so."""
    try:
        market = public_market(settings)
    except FeedError as error:
        console.print(f"{error} Showing a simulated market instead.")
        return SIMULATED
    console.print(f"Trades are {market.name}'s, as they are made.")
    return market


def _latest(api: Api, symbols: Sequence[str]) -> list[StreamedBar]:
    """Return the newest bars; none while the API does not give any."""
    try:
        return latest_bars(api, symbols)
    except TapelineError:
        return []


class _Until:
    """Says when the view ends: at a signal, or so long after the first bar of this demo."""

    def __init__(self, stop: threading.Event, for_s: float | None) -> None:
        self._stop = stop
        self._for_s = for_s
        self._first_bar_s: float | None = None
        self._started = datetime.now(timezone.utc)

    def saw(self, bars: Iterable[StreamedBar]) -> None:
        """Start the time that the view was given, unless all bars are of an earlier demo."""
        if self._first_bar_s is None and any(b.window_end > self._started for b in bars):
            self._first_bar_s = time.monotonic()

    def is_over(self) -> bool:
        """Wait a moment; return whether to end."""
        if self._stop.wait(_REFRESH_S):
            return True
        if self._for_s is None or self._first_bar_s is None:
            return False
        return time.monotonic() - self._first_bar_s >= self._for_s


@contextmanager
def _stopping_on_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event, so that everything is stopped in order."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_table(console: Console, read: _Read, parts: DemoParts, until: _Until) -> None:
    """Redraw one table of the newest bars."""
    started = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while not until.is_over():
            keep_alive(parts.children)
            latest = read()
            if latest:
                until.saw(latest)
                live.update(_table(latest, parts.market, console.width), refresh=True)
            else:
                waited_s = time.monotonic() - started
                live.update(f"Waiting for the first bars, {waited_s:.0f} s …", refresh=True)


def _show_lines(console: Console, read: _Read, parts: DemoParts, until: _Until) -> None:
    """Print a line for each bar that changed."""
    known: dict[str, StreamedBar] = {}
    while not until.is_over():
        keep_alive(parts.children)
        for bar in read():
            if known.get(bar.symbol) != bar:
                until.saw([bar])
                known[bar.symbol] = bar
                console.print(_line(bar), highlight=False, soft_wrap=True)


def _table(bars: Sequence[StreamedBar], market: Market, width: int) -> Table:
    """Draw the bars; a narrow terminal gets fewer columns instead of cut ones."""
    now = datetime.now(timezone.utc)
    table = Table(
        title=f"Five-minute bars of {market.name}, {now:%H:%M:%S} UTC",
        caption="provisional until ten minutes after the bar's end, then final",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    cells: dict[str, Callable[[StreamedBar], RenderableType]] = {
        "symbol": lambda bar: bar.symbol,
        "bar": lambda bar: f"{bar.window_start:%H:%M}",
        "open": lambda bar: _price(bar.open),
        "high": lambda bar: _price(bar.high),
        "low": lambda bar: _price(bar.low),
        "close": lambda bar: _price(bar.close),
        "change": _change,
        "volume": lambda bar: f"{bar.volume:,.6g}",
        "VWAP": lambda bar: _price(bar.vwap),
        "trades": lambda bar: f"{bar.trade_count:,}",
        "state": _state,
    }
    if width < _WIDE:
        for name in ("open", "high", "low", "VWAP"):
            del cells[name]
    for name in cells:
        is_text = name in {"symbol", "bar", "state"}
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for bar in bars:
        table.add_row(*(cell(bar) for cell in cells.values()))
    return table


def _change(bar: StreamedBar) -> Text:
    if bar.open is None or bar.close is None:
        return Text("")
    percent = (bar.close / bar.open - 1) * 100
    style = "green" if percent > 0 else "red" if percent < 0 else ""
    return Text(f"{percent:+.3f}%", style)


def _price(value: float | None) -> str:
    return "" if value is None else f"{value:,.7g}"


def _state(bar: StreamedBar) -> str:
    return state_text(bar.revision, is_final=bar.is_final)


def _line(bar: StreamedBar) -> str:
    prices = " ".join(
        f"{name}={_price(value)}"
        for name, value in zip("ohlc", (bar.open, bar.high, bar.low, bar.close), strict=True)
    )
    return (
        f"{bar.symbol} {bar.window_start:%Y-%m-%dT%H:%MZ} {prices} "
        f"volume={bar.volume:g} trades={bar.trade_count} {_state(bar)}"
    )
