"""`tapeline demo`: everything at once, and live bars on the terminal and in the browser."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta, timezone
from types import FrameType
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tapeline.bar import Bar, Interval
from tapeline.local.home import Home
from tapeline.local.lock import only_one
from tapeline.local.service import LOOPBACK, free_port
from tapeline.local.services import running_services
from tapeline.logs import configure_logging
from tapeline.producer.topics import create_topics, topic_admin
from tapeline.settings import API_PORT, load_settings
from tapeline.simulator.child import DEMO, simulated_feed
from tapeline.simulator.market import INSTRUMENTS
from tapeline.storage.cassandra_client import CassandraClient
from tapeline.supervisor import Child, child_process, keep_alive

_REFRESH_S: Final = 0.5
_WIDE: Final = 118
_SHOWN: Final = timedelta(minutes=10)
_SYMBOLS: Final = tuple(i.symbol for i in INSTRUMENTS)


def demo(
    for_s: Annotated[
        float | None, typer.Option("--for", min=1, help="End after so many seconds of bars.")
    ] = None,
) -> None:
    """Start everything and show live bars of a simulated market.

    Kafka, Cassandra, the simulated feed, the producer, the Spark job and the API with its page,
    in keyspace and topic `demo`. Ctrl-C stops all of it; the data stays.

    Example: tapeline demo --for 60
    """
    console = Console()
    settings = load_settings().with_target(topic=DEMO, keyspace=DEMO)
    configure_logging(settings.log_level)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopping_on_signals())
        stack.enter_context(only_one(Home(settings.home), DEMO))
        endpoints = stack.enter_context(running_services(settings, console))
        client = stack.enter_context(
            closing(
                CassandraClient(
                    settings.cassandra, endpoints.cassandra_host, endpoints.cassandra_port
                )
            )
        )
        client.create_schema()
        create_topics(topic_admin(endpoints.bootstrap_servers), settings.kafka)
        feed = stack.enter_context(simulated_feed(settings.home))
        produce = ["produce", "--source", "simulator", "--symbols", ",".join(_SYMBOLS)]
        stream = ["stream", "--topic", DEMO, "--keyspace", DEMO]
        port = free_port(API_PORT)
        api = ["api", "--topic", DEMO, "--keyspace", DEMO, "--port", str(port)]
        children = [
            feed.child,
            stack.enter_context(child_process(produce, settings.home, feed.environment)),
            stack.enter_context(child_process(stream, settings.home)),
            stack.enter_context(child_process(api, settings.home)),
        ]
        page = f"http://{LOOPBACK}:{port}/"
        console.print(f"\nThe bars are live at [bold][link={page}]{page}[/link][/bold]\n")
        console.print(f"Logs are in {Home(settings.home).logs}. Ctrl-C ends the demo.")
        show = _show_table if console.is_terminal else _show_lines
        show(console, client, children, _Until(stop, for_s))
    console.print("The demo has ended; `tapeline demo` goes on where it was.")


class _Until:
    """Says when the view ends: at a signal, or so long after the first bar."""

    def __init__(self, stop: threading.Event, for_s: float | None) -> None:
        self._stop = stop
        self._for_s = for_s
        self._first_bar_s: float | None = None

    def saw_bars(self) -> None:
        """Start the time that the view was given."""
        self._first_bar_s = self._first_bar_s or time.monotonic()

    def is_over(self) -> bool:
        """Wait a moment; tell whether to end."""
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


def _show_table(
    console: Console, client: CassandraClient, children: Sequence[Child], until: _Until
) -> None:
    """Redraw one table of the newest bars."""
    started = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while not until.is_over():
            keep_alive(children)
            latest = _latest_bars(client)
            if latest:
                until.saw_bars()
                live.update(_table(latest, console.width), refresh=True)
            else:
                waited_s = time.monotonic() - started
                live.update(f"Waiting for Spark's first bars, {waited_s:.0f} s …", refresh=True)


def _show_lines(
    console: Console, client: CassandraClient, children: Sequence[Child], until: _Until
) -> None:
    """Print a line for each bar that changed."""
    known: dict[tuple[str, datetime], Bar] = {}
    while not until.is_over():
        keep_alive(children)
        for bar in _recent_bars(client):
            key = (bar.symbol, bar.window_start)
            if known.get(key) != bar:
                until.saw_bars()
                known[key] = bar
                console.print(_line(bar), highlight=False, soft_wrap=True)


def _recent_bars(client: CassandraClient) -> list[Bar]:
    now = datetime.now(timezone.utc)
    return [
        bar
        for symbol in _SYMBOLS
        for bar in client.bars(symbol, Interval.FIVE_MINUTES, now - _SHOWN, now)
    ]


def _latest_bars(client: CassandraClient) -> list[Bar]:
    latest = {bar.symbol: bar for bar in _recent_bars(client)}
    return list(latest.values())


def _table(bars: Sequence[Bar], width: int) -> Table:
    """Draw the bars; a narrow terminal gets fewer columns instead of cut ones."""
    now = datetime.now(timezone.utc)
    table = Table(
        title=f"Five-minute bars of a simulated market, {now:%H:%M:%S} UTC",
        caption="provisional until ten minutes after the bar's end, then final",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    cells: dict[str, Callable[[Bar], RenderableType]] = {
        "symbol": lambda bar: bar.symbol,
        "bar": lambda bar: f"{bar.window_start:%H:%M}",
        "open": lambda bar: _price(bar.open),
        "high": lambda bar: _price(bar.high),
        "low": lambda bar: _price(bar.low),
        "close": lambda bar: _price(bar.close),
        "change": _change,
        "volume": lambda bar: f"{float(bar.volume):,.6g}",
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


def _change(bar: Bar) -> Text:
    if bar.open is None or bar.close is None:
        return Text("")
    percent = (bar.close / bar.open - 1) * 100
    style = "green" if percent > 0 else "red" if percent < 0 else ""
    return Text(f"{percent:+.3f}%", style)


def _price(value: float | None) -> str:
    return "" if value is None else f"{value:,.7g}"


def _state(bar: Bar) -> str:
    if not bar.is_final:
        return "provisional"
    return "final" if bar.revision == 1 else f"revision {bar.revision}"


def _line(bar: Bar) -> str:
    prices = " ".join(
        f"{name}={_price(value)}"
        for name, value in zip("ohlc", (bar.open, bar.high, bar.low, bar.close), strict=True)
    )
    return (
        f"{bar.symbol} {bar.window_start:%Y-%m-%dT%H:%MZ} {prices} "
        f"volume={float(bar.volume):g} trades={bar.trade_count} {_state(bar)}"
    )
