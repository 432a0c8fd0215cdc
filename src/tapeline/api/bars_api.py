"""`/v1/bars`: bars of one symbol or several, and the newest ones."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from tapeline.api.formats import negotiated
from tapeline.api.problems import Problem
from tapeline.api.store import Store
from tapeline.bar import Bar
from tapeline.bars import bars_between
from tapeline.rollup import ReadInterval
from tapeline.storage.cassandra_client import CassandraClient

router = APIRouter(prefix="/v1", tags=["bars"])

_DAY: Final = timedelta(days=1)
_MOST_SYMBOLS: Final = 100
_CACHE_FINAL: Final = "public, max-age=3600"
_CACHE_OPEN: Final = "no-cache"


class Fill(str, Enum):
    """What stands where no trade was made."""

    NONE = "none"
    FLAT = "flat"


class BarOut(BaseModel):
    """One bar; `is_filled` marks one without trades, made on request from the close before it."""

    symbol: str
    window_start: datetime
    window_end: datetime
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float
    vwap: float | None
    trade_count: int
    is_final: bool
    is_complete: bool | None
    revision: int
    session: str | None
    is_filled: bool = False


class BarsOut(BaseModel):
    """Bars in order of time; `next_cursor` leads to those after them."""

    symbol: str
    interval: str
    bars: list[BarOut]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Range:
    """What a request asks for."""

    interval: ReadInterval
    start: datetime
    end: datetime
    limit: int


def store_of(request: Request) -> Store:
    """Return the application's store."""
    store: Store = request.app.state.store
    return store


def interval_of(
    interval: Annotated[str, Query(examples=["5m", "1h", "1d"], max_length=8)] = "5m",
) -> ReadInterval:
    """Read the length of the bars."""
    try:
        return ReadInterval.parse(interval)
    except ValueError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"interval: {error}") from error


def range_of(
    interval: Annotated[ReadInterval, Depends(interval_of)],
    start: Annotated[datetime | None, Query(description="A day before the end by default.")] = None,
    end: Annotated[datetime | None, Query(description="Now by default.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Range:
    """Read the time that is asked for; a time without a zone is UTC."""
    last = to_utc(end) if end else datetime.now(timezone.utc)
    first = to_utc(start) if start else last - _DAY
    if cursor is not None:
        first = max(first, _after(cursor))
    if first > last:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "start: it lies after the end")
    return Range(interval, first, last, limit)


@router.get("/bars/latest", summary="The newest bar of each symbol")
async def latest(
    request: Request,
    symbols: Annotated[str, Query(examples=["AAPL,BINANCE:BTCUSDT"], max_length=10_000)],
    interval: Annotated[ReadInterval, Depends(interval_of)],
) -> Response:
    """Return the newest bar of the last day of each symbol that has one."""
    now = datetime.now(timezone.utc)
    wanted = Range(interval, now - _DAY, now, limit=1)

    def query(client: CassandraClient) -> list[Bar]:
        found = []
        for symbol in split_symbols(symbols):
            bars = list(_bars(client, symbol, wanted, request))
            found += bars[-1:]
        return found

    bars = await store_of(request).read(query)
    content = {"interval": interval.name, "bars": [bar_out(bar) for bar in bars]}
    return negotiated(request, content, bars, _cache_of(bars))


@router.get("/bars/{symbol}", response_model=BarsOut, summary="Bars of one symbol")
async def of_symbol(
    request: Request,
    symbol: str,
    wanted: Annotated[Range, Depends(range_of)],
    fill: Fill = Fill.NONE,
) -> Response:
    """Return bars with start <= window_start < end; JSON, CSV or Arrow by the Accept header."""

    def query(client: CassandraClient) -> list[Bar]:
        return list(islice(_bars(client, symbol, wanted, request), wanted.limit + 1))

    bars = await store_of(request).read(query)
    page, rest = bars[: wanted.limit], bars[wanted.limit :]
    rows = [bar_out(bar) for bar in page]
    content = {
        "symbol": symbol,
        "interval": wanted.interval.name,
        "bars": filled(rows, wanted.interval) if fill is Fill.FLAT else rows,
        "next_cursor": _cursor(page[-1].window_start) if rest else None,
    }
    return negotiated(request, content, page, _cache_of(page))


def bar_out(bar: Bar) -> dict[str, Any]:
    """Return a bar as it goes into JSON."""
    return {
        "symbol": bar.symbol,
        "window_start": _iso(bar.window_start),
        "window_end": _iso(bar.window_end),
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": float(bar.volume),
        "vwap": bar.vwap,
        "trade_count": bar.trade_count,
        "is_final": bar.is_final,
        "is_complete": bar.is_complete,
        "revision": bar.revision,
        "session": bar.session,
        "is_filled": False,
    }


def filled(rows: Sequence[dict[str, Any]], interval: ReadInterval) -> list[dict[str, Any]]:
    """Put flat bars where none is, at the close before them; days are left as they are."""
    if interval.is_day:
        return list(rows)
    result: list[dict[str, Any]] = []
    for row in rows:
        if result:
            result += _flat_until(result[-1], row["window_start"], interval.duration)
        result.append(row)
    return result


def _flat_until(
    before: dict[str, Any], next_start: str, duration: timedelta
) -> Iterator[dict[str, Any]]:
    start = datetime.fromisoformat(before["window_end"].replace("Z", "+00:00"))
    close = before["close"]
    while _iso(start) < next_start:
        prices = dict.fromkeys(("open", "high", "low", "close"), close)
        times = {"window_start": _iso(start), "window_end": _iso(start + duration)}
        nothing = {"volume": 0.0, "vwap": None, "trade_count": 0, "is_filled": True}
        yield {**before, **times, **prices, **nothing}
        start += duration


def _bars(client: CassandraClient, symbol: str, wanted: Range, request: Request) -> Iterator[Bar]:
    delay: timedelta = request.app.state.delay
    return bars_between(client, symbol, wanted.interval, wanted.start, wanted.end, delay)


def split_symbols(symbols: str) -> list[str]:
    """Read names with commas between them."""
    names = list(dict.fromkeys(name.strip() for name in symbols.split(",") if name.strip()))
    if not 0 < len(names) <= _MOST_SYMBOLS:
        detail = f"symbols: give 1 to {_MOST_SYMBOLS} names with commas between them"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return names


def _cache_of(bars: Sequence[Bar]) -> str:
    return _CACHE_FINAL if bars and all(bar.is_final for bar in bars) else _CACHE_OPEN


def _cursor(last_start: datetime) -> str:
    return base64.urlsafe_b64encode(_iso(last_start).encode()).decode().rstrip("=")


def _after(cursor: str) -> datetime:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        return to_utc(datetime.fromisoformat(text.replace("Z", "+00:00"))) + timedelta(
            milliseconds=1
        )
    except (binascii.Error, ValueError, OverflowError) as error:
        detail = "cursor: take it from next_cursor of the page before"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from error


def to_utc(time: datetime) -> datetime:
    """Return a time as UTC; one without a zone is UTC."""
    return (
        time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    )


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
