"""Check gold against somebody else's bars: a CSV or Finnhub's candles, gzip or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import IO, Final

from tapeline.audit.context import Context
from tapeline.audit.findings import NO_PRICES, Compared, Difference, Pair, text_of
from tapeline.model.bar import Bar, Interval, WindowKey
from tapeline.model.columns import named_twice
from tapeline.model.errors import UsageError
from tapeline.model.read_interval import ReadInterval
from tapeline.model.times import from_millis, to_millis
from tapeline.read.bars import bars_between
from tapeline.storage.cassandra_client import CassandraClient

_BARS_AT_ONCE: Final = 500
_PAIRS: Final = {
    Interval.FIVE_MINUTES: Pair.VENDOR,
    Interval.ONE_HOUR: Pair.VENDOR_HOURS,
}
"""The lengths of bars that are compared."""
_PRICES: Final = ("open", "high", "low", "close")
_REQUIRED: Final = frozenset({"symbol", *_PRICES, "volume"})
_CANDLES: Final = ("t", "o", "h", "l", "c", "v")
_START_BYTES: Final = 64
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class VendorBar:
    """A bar of somebody else."""

    symbol: str
    window_start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: Decimal
    interval: Interval = Interval.FIVE_MINUTES

    @property
    def key(self) -> WindowKey:
        """The window, as readers of bars name it."""
        return self.symbol, self.window_start


@dataclass(frozen=True, slots=True)
class NoPrices:
    """A row of a vendor's file that has no prices: nothing traded, or nothing that may set one."""

    symbol: str
    window_start: datetime
    interval: Interval = Interval.FIVE_MINUTES

    @property
    def key(self) -> WindowKey:
        """The window, as readers of bars name it."""
        return self.symbol, self.window_start


def check_vendor(context: Context, path: Path) -> None:
    """Compare a vendor's bars in scope with the stored ones; rows without prices are counted.

    Raises:
        UsageError: the file has none.
    """
    scope = context.scope
    rows_of_file = read_vendor_bars(path, scope.symbols or ())
    in_scope = (row for row in rows_of_file if scope.covers(row.key))
    total = 0
    while rows := list(islice(in_scope, _BARS_AT_ONCE)):
        for interval in _PAIRS:
            total += _compare_some(context, interval, [r for r in rows if r.interval is interval])
    if not total:
        message = f"{path} has no bar to compare in the times and symbols that are audited."
        raise UsageError(message)


def _compare_some(
    context: Context, interval: Interval, rows: Sequence[VendorBar | NoPrices]
) -> int:
    """Compare rows of one length; return how many of them are bars."""
    pair, baseline = _PAIRS[interval], context.baseline
    some = [row for row in rows if isinstance(row, VendorBar)]
    left_out = [row.window_start for row in rows if isinstance(row, NoPrices)]
    context.findings.not_auditable(pair, NO_PRICES, left_out)
    if some:
        bars = _bars_as_read(context.client, interval, [bar.key for bar in some])
        due = baseline.due_hours if interval is Interval.ONE_HOUR else baseline.due
        context.findings.add(pair, compare_vendor(some, bars, due))
    return len(some)


def _bars_as_read(
    client: CassandraClient, interval: Interval, keys: Sequence[WindowKey]
) -> dict[WindowKey, Bar]:
    """Return the bars of some windows as readers get them."""
    stored = client.stored_bars(interval, keys)
    length = ReadInterval.parse(interval.value)
    bars = {key: found.bar for key, found in stored.items()}
    by_symbol = defaultdict(list)
    for (symbol, start), bar in bars.items():
        if client.reading_rules(bar.policy).carry_open:
            by_symbol[symbol].append(start)
    for symbol, starts in by_symbol.items():
        for bar in bars_between(client, symbol, length, min(starts), max(starts) + length.duration):
            if (symbol, bar.window_start) in bars:
                bars[symbol, bar.window_start] = bar
    return bars


def read_vendor_bars(path: Path, symbols: Collection[str] = ()) -> Iterator[VendorBar | NoPrices]:
    """Yield the rows of a CSV with the columns symbol, open, high, low, close, volume.

    The start of a window is `window_start_ms` (ms since the epoch) or `window_start` (ISO, UTC
    where it names no zone). A column `interval` says that bars are of 5m or of 1h; without it
    all are of 5m. A row whose column `exact` is 0 is left out. A file of JSON is Finnhub's answer
    to a request for candles of one symbol, which it does not name.

    Args:
        path: the file.
        symbols: what is audited; candles are those of the only one.

    Raises:
        UsageError: there is no such file, a column is missing or there twice, or a row is no bar.
    """
    try:
        with _open(path) as file:
            if file.read(_START_BYTES).lstrip().startswith(b"{"):
                file.seek(0)
                yield from _candles(file.read(), path, symbols)
                return
            file.seek(0)
            rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
            names = set(rows.fieldnames or ())
            if not names >= _REQUIRED or not names & {"window_start", "window_start_ms"}:
                message = (
                    f"{path} holds no bars: its columns must be window_start_ms or window_start, "
                    "symbol, open, high, low, close, volume."
                )
                raise UsageError(message)
            if twice := named_twice(rows.fieldnames or ()):
                message = f"{path} holds no bars: it has column {twice} twice."
                raise UsageError(message)
            for row in rows:
                if row.get("exact") != "0":
                    yield _bar(row, f"{path}, line {rows.line_num}")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path} cannot be read: {error}"
        raise UsageError(message) from error


def _candles(text: bytes, path: Path, symbols: Collection[str]) -> Iterator[VendorBar | NoPrices]:
    """Yield Finnhub's candles: arrays `t` (s since the epoch), `o`, `h`, `l`, `c` and `v`."""
    if len(symbols) != 1:
        message = f"{path} does not say whose candles it has: give that symbol with --symbols."
        raise UsageError(message)
    (symbol,) = symbols
    try:
        answer = json.loads(text, parse_float=Decimal)
        columns = [] if answer["s"] == "no_data" else [answer[name] for name in _CANDLES]
        rows = list(zip(*columns, strict=True))
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} holds no candles: it must be an object with s, {', '.join(_CANDLES)}."
        raise UsageError(message) from error
    for number, (start_s, *values) in enumerate(rows, 1):
        row = dict(zip((*_PRICES, "volume"), map(str, values), strict=True))
        yield _bar(
            {**row, "symbol": symbol, "window_start_ms": f"{start_s}000"},
            f"{path}, candle {number}",
        )


def compare_vendor(
    vendor: Iterable[VendorBar], bars: Mapping[WindowKey, Bar], due: Collection[WindowKey]
) -> Compared:
    """Compare a vendor's bars with the stored ones of the same windows.

    Bars that the vendor does not have are no difference; windows that are `due` to be finalized
    and bars that are not final are not compared.
    """
    found = Compared()
    for theirs in vendor:
        ours = bars.get(theirs.key)
        if theirs.key in due or (ours is not None and not ours.is_final):
            found.not_yet += 1
            continue
        found.checked += 1
        if ours is None:
            found.differences.append(_difference(theirs, "bar", "in gold", "none"))
            continue
        for name in (*_PRICES, "volume"):
            expected, value = getattr(theirs, name), getattr(ours, name)
            if expected != value:
                found.differences.append(
                    _difference(theirs, name, text_of(expected), text_of(value))
                )
    return found


def _difference(bar: VendorBar, what: str, expected: str, found: str) -> Difference:
    return Difference(
        pair=_PAIRS[bar.interval],
        what=what,
        expected=expected,
        found=found,
        symbol=bar.symbol,
        window_start=bar.window_start,
        interval=bar.interval,
    )


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path, "rb") if is_gzip else path.open("rb")  # type: ignore[return-value]


def _bar(row: Mapping[str, str | None], where: str) -> VendorBar | NoPrices:
    symbol = (row["symbol"] or "").strip()
    interval = _interval(row, where)
    try:
        start = _window_start(row)
        if not any((row[name] or "").strip() for name in _PRICES):
            return NoPrices(symbol, start, interval)
        first, high, low, last = (float(row[name] or "") for name in _PRICES)
        volume = Decimal(row["volume"] or "")
    except (ValueError, OverflowError, InvalidOperation) as error:
        message = f"{where}: this is no bar: {error}"
        raise UsageError(message) from error
    if to_millis(start) % interval.ms:
        message = f"{where}: {text_of(start)} is no start of a {interval.value} window."
        raise UsageError(message)
    return VendorBar(symbol, start, first, high, low, last, volume, interval)


def _interval(row: Mapping[str, str | None], where: str) -> Interval:
    name = (row.get("interval") or "").strip() or Interval.FIVE_MINUTES.value
    found = next((interval for interval in _PAIRS if interval.value == name), None)
    if found is None:
        lengths = " and ".join(interval.value for interval in _PAIRS)
        message = (
            f"{where}: bars of {name} are not compared, only those of {lengths}: leave it out."
        )
        raise UsageError(message)
    return found


def _window_start(row: Mapping[str, str | None]) -> datetime:
    if row.get("window_start_ms"):
        return from_millis(int(row["window_start_ms"] or ""))
    time = datetime.fromisoformat(row.get("window_start") or "")
    return (
        time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    )
